/* Texts that are almost JSON: nothing is read that is not in them, and what passes the check can be read and written. */
#include "check.h"
#include "internal.h"
#include "taskhost_test.h"

static uint32_t random_number(uint32_t below) {
    static uint64_t state = 42;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
}

static th_json fuzzed;

/* Reads all that there is, deep down to a bound of its own. */
static void walk(th_call *call, th_writer *writer, th_json json, unsigned depth) {
    int64_t integer;
    double number;
    bool flag;
    size_t length = 0;
    const char *text = th_json_str(call, json, &length);
    if (text != NULL) {
        th_put_text(writer, text, length);
    } else if (th_json_int(json, &integer)) {
        th_put_int(writer, integer);
    } else if (th_json_double(json, &number)) {
        th_put_double(writer, number);
    } else if (th_json_bool(json, &flag)) {
        th_put_bool(writer, flag);
    } else if (depth < 60 && th_json_kind(json) == TH_ARRAY) {
        th_begin_array(writer);
        for (th_items it = th_json_items(json); th_next(&it);) {
            TRUE(it.value.text >= json.text && it.value.text + it.value.length <= json.text + json.length);
            walk(call, writer, it.value, depth + 1);
        }
        th_end(writer);
    } else if (depth < 60 && th_json_kind(json) == TH_OBJECT) {
        th_begin_object(writer);
        for (th_items it = th_json_items(json); th_next(&it);) {
            const char *key = th_json_str(call, it.key, &length);
            th_key_text(writer, key == NULL ? "?" : key, key == NULL ? 1 : length);
            walk(call, writer, it.value, depth + 1);
            (void)th_json_get(json, "a");
        }
        th_end(writer);
    } else {
        th_put_null(writer);
    }
}

TASKHOST_TASK(read, "fuzz.read") {
    th_json checked;
    bool is_json = th_json_parse(call, fuzzed.text, fuzzed.length, &checked);
    th_writer writer = th_write(call);
    walk(call, &writer, fuzzed, 0);
    th_json written = th_written(&writer);
    TRUE(written.text != NULL);
    size_t at;
    TRUE(json_fault(written.text, written.length, &at) == NULL);
    th_sig read = th_sig_read(call, fuzzed);
    if (is_json && read != NULL) {
        th_json map = th_sig_json(th_stamp(th_link(read, read), "s", th_jsonf(call, "1")));
        TRUE(map.text == NULL || json_fault(map.text, map.length, &at) == NULL);
    }
    return th_bool(call, is_json);
}

int main(int count, char **arguments) {
    static const char *const seeds[] = {
        "{\"task\": \"celery.chord\", \"args\": [], \"kwargs\": {\"header\": [{\"task\": \"a\"}], \"body\": {\"task\": \"b\"}}, "
        "\"options\": {\"link\": [{\"task\": \"c\"}]}, \"subtask_type\": \"chord\", \"immutable\": false}",
        "[1, -2.5e300, NaN, -Infinity, 123456789012345678901234567890, \"\\ud83d\\ude00 \\ud800 \xC3\xBC\", true, null, [[[{}]]]]",
        "{\"a\": {\"\\u0061\": [1, 2, {\"b\": \"\\\\\\\"\"}]}, \"\": 0.1}",
    };
    static const char *const pieces[] = {"[", "]", "{", "}", "\"", "\\", ",", ":", "\\u", "\xED\xA0\x80", "\xFF", "1e999", "-", "null", "\\ud800"};
    long rounds = count > 1 ? atol(arguments[1]) : 3000, whole = 0;
    for (long i = 0; i < rounds; i++) {
        const char *seed = seeds[random_number(3)];
        size_t length = strlen(seed);
        /* Of its exact size, so that a byte too far is seen. */
        char *text = malloc(length + 32);
        memcpy(text, seed, length);
        for (uint32_t change = random_number(5); change > 0; change--) {
            size_t place = random_number((uint32_t)length);
            const char *piece = pieces[random_number(sizeof pieces / sizeof *pieces)];
            size_t size = strlen(piece);
            if (random_number(2) == 0 && place + size <= length) {
                memcpy(text + place, piece, size);
            } else {
                length = place > 0 ? place : 1;
            }
        }
        char *exact = malloc(length);
        memcpy(exact, text, length);
        fuzzed = (th_json){exact, length};
        th_tested *tested = th_test("fuzz.read", NULL, NULL);
        IS(tested->state, "SUCCESS");
        whole += strcmp(tested->result, "true") == 0;
        th_test_free(tested);
        free(exact);
        free(text);
    }
    TRUE(whole > 0 && whole < rounds);
    puts("fuzz: ok");
    return 0;
}
