/* The tasks, without a host. */
#include "taskhost_test.h"

#undef NDEBUG
#include <assert.h>
#include <string.h>

static void numbers_are_added(void) {
    th_tested *tested = th_test("{{name}}.add", "[2, 2]", "{}");
    assert(strcmp(tested->state, "SUCCESS") == 0 && strcmp(tested->result, "4") == 0);
    th_test_free(tested);
}

static void letters_of_all_words_count(void) {
    th_tested *tested = th_test("{{name}}.letters", "[[\"four\", \"три\"]]", "{}");
    assert(strcmp(tested->result, "7") == 0);
    assert(strcmp(tested->states, "[[\"PROGRESS\",{\"current\":1,\"total\":2}],[\"PROGRESS\",{\"current\":2,\"total\":2}]]") == 0);
    th_test_free(tested);
}

static void without_words_it_is_run_again(void) {
    th_tested *tested = th_test("{{name}}.letters", "[[]]", "{}");
    assert(strcmp(tested->state, "RETRY") == 0 && strcmp(tested->exc_type, "ValueError") == 0);
    th_test_free(tested);
}

int main(void) {
    numbers_are_added();
    letters_of_all_words_count();
    without_words_it_is_run_again();
    return 0;
}
