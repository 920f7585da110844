/* Tasks of the plugin {{name}}. */
#include "taskhost.h"

TASKHOST_TASK(add, "{{name}}.add", .summary = "Adds two numbers.", .params = "x: int, y: int", .time_limit = 30) {
    int64_t sum;
    if (__builtin_add_overflow(th_arg_int(call, "x"), th_arg_int(call, "y"), &sum)) {
        return TH_FAIL(call, "OverflowError", "the sum does not fit into 64 bits");
    }
    return th_int(call, sum);
}

TASKHOST_TASK(letters, "{{name}}.letters",
              .summary = "Counts the letters of words, and says after each how far it is. Without words it asks to be run again.",
              .params = "words: list", .max_retries = 3) {
    th_json words = th_arg(call, "words");
    size_t total = th_json_count(words), current = 0;
    int64_t letters = 0;
    if (total == 0) {
        return TH_RETRY(call, .countdown = 1, .cause = TH_ERROR(call, "ValueError", "no words"));
    }
    for (th_items it = th_json_items(words); th_next(&it);) {
        const char *word = th_json_str(call, it.value, NULL);
        if (word == NULL) {
            return TH_FAIL(call, "TypeError", "word %zu is not a text", current);
        }
        for (; *word != 0; word++) {
            letters += (*word & 0xC0) != 0x80; /* not the second byte of a letter, nor the third */
        }
        th_progress(call, ++current, total);
    }
    return th_int(call, letters);
}
