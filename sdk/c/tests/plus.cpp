// The SDK as C++ sees it.
#include "check.h"
#include "taskhost.h"
#include "taskhost_test.h"

#include <string>

TASKHOST_TASK(greet, "plus.greet", .summary = "Greets.", .params = "name: str", .max_retries = 3, .acks_late = false) {
    std::string text = std::string("Hello, ") + th_arg_str(call, "name");
    if (th_retries(call) == 0) {
        return TH_RETRY(call, .countdown = 0, .cause = TH_ERROR(call, "ValueError", "not yet"));
    }
    return th_str(call, text.c_str());
}

TASKHOST_TASK(compose, "plus.compose") {
    th_sig a = th_signature(call, "a"), b = th_signature(call, "b");
    return th_replace(call, th_chain(call, th_group(call, a, b), th_chord(call, a, b)));
}

int main() {
    th_tested *tested = th_test("plus.greet", "[\"you\"]", nullptr);
    IS(tested->state, "RETRY");
    TRUE(tested->countdown == 0);
    th_test_free(tested);
    th_test_call call = {.task = "plus.greet", .args = "[\"you\"]", .retries = 1};
    tested = th_test_with(call);
    IS(tested->result, "\"Hello, you\"");
    th_test_free(tested);
    tested = th_test("plus.compose", nullptr, nullptr);
    IS(tested->state, "REPLACED");
    th_test_free(tested);
    puts("plus: ok");
}
