/* Tasks as clients call them, and what becomes of it. */
#include "check.h"
#include "taskhost.h"
#include "taskhost_test.h"

#include <math.h>

/* ---- Tasks ------------------------------------------------------------------------------------------------------ */

TASKHOST_TASK(noop, "t.noop") { return th_null(call); }
TASKHOST_TASK(one, "t.one", .params = "x") { return th_return(call, th_arg(call, "x")); }
TASKHOST_TASK(add, "t.add", .summary = "Adds.", .params = "x: int, y: int", .max_retries = TH_NONE, .retry_backoff = true,
              .autoretry_for = "ConnectionError, TimeoutError", .acks_late = false, .default_retry_delay = 0.5,
              .options = "{'compression': 'gzip', 'throws': ['100%']}") {
    return th_int(call, th_arg_int(call, "x") + th_arg_int(call, "y"));
}
TASKHOST_TASK(sum, "t.sum", .params = "a, b, c") { return th_null(call); }
TASKHOST_TASK(page, "t.page", .params = "url: str, size: int = 8, x: float | None = null") {
    return th_returnf(call, "[%s, %lld, %g, %d]", th_arg_str(call, "url"), (long long)th_arg_int(call, "size"),
                      th_arg_double(call, "x"), th_arg_is_none(call, "x"));
}
TASKHOST_TASK(once, "t.once", .params = "x, *rest, expires: int = 5, **others") {
    th_json rest = th_rest(call), others = th_keywords(call), x = th_arg(call, "x");
    return th_returnf(call, "[%p, %p, %d, %p]", (void *)&x, (void *)&rest, (int)th_arg_int(call, "expires"), (void *)&others);
}
TASKHOST_TASK(named, "t.named", .params = "*, key: bool, flag: bool = True, text: str = 'it, \"is\"'") {
    return th_returnf(call, "[%s, %s, %s]", th_arg_bool(call, "key") ? "yes" : "no", th_arg_bool(call, "flag") ? "yes" : "no",
                      th_arg_str(call, "text"));
}
TASKHOST_TASK(fail, "t.fail") {
    th_error *cause = TH_ERROR(call, "KeyError", "k");
    return TH_RAISE(call, th_error_cause(th_error_module(TH_ERROR(call, "Own", "100%% %s", "\xFF"), "mine"), cause));
}
TASKHOST_TASK(forgets, "t.forgets") { return (th_result){0}; }
TASKHOST_TASK(ends, "t.ends", .params = "how: str") {
    const char *how = th_arg_str(call, "how");
    if (strcmp(how, "retry") == 0) {
        return TH_RETRY(call);
    }
    if (strcmp(how, "retry now") == 0) {
        return TH_RETRY(call, .countdown = 0, .max_retries = 3, .args = th_jsonf(call, "[1]"), .cause = TH_ERROR(call, "E", "no"));
    }
    if (strcmp(how, "reject") == 0) {
        return th_reject(call, true);
    }
    if (strcmp(how, "ignore") == 0) {
        return th_ignore(call);
    }
    if (strcmp(how, "replace") == 0) {
        return th_replace(call, th_argsf(th_signature(call, "t.other"), "[%d]", 1));
    }
    if (strcmp(how, "bad retry") == 0) {
        return TH_RETRY(call, .args = th_jsonf(call, "5"));
    }
    return th_replace(call, th_argsf(th_signature(call, "t.other"), "5"));
}
TASKHOST_TASK(formats, "t.formats") {
    th_json raw = th_jsonf(call, "[NaN, 1]");
    return th_returnf(call, "{'a': %d, 'b': [%u, %lld, %zu], \"c\": %s, 'd': %.*s, 'e': 'x%sy\"', 'f': %p, 'g': %s, 'h': '\\'%%'}", -5,
                      5u, (long long)INT64_MIN, (size_t)7, "q\"\n\x01", 2, "abc", "\\", (void *)&raw, (const char *)NULL);
}
TASKHOST_TASK(numbers, "t.numbers") {
    return th_returnf(call, "[%g, %g, %g, %g, %g, %g, %g, %g, %g, %g, %g]", 0.0, -0.0, 1.0, 1e15, 1e16, 0.1, 1e-5, 123456.789, 5e-324,
                      1.7976931348623157e308, 1.0 / 3);
}
TASKHOST_TASK(odd, "t.odd") { return th_returnf(call, "[%g, %g, %g]", (double)NAN, (double)INFINITY, -(double)INFINITY); }
TASKHOST_TASK(strings, "t.strings", .params = "x") {
    size_t length;
    const char *text = th_json_str(call, th_arg(call, "x"), &length);
    return text == NULL ? TH_FAIL(call, "ValueError", "no text") : th_text(call, text, length);
}
TASKHOST_TASK(says, "t.says") {
    th_progress(call, 1, 2);
    TRUE(th_last_error(call) == NULL);
    TRUE(!th_update_state(call, "SUCCESS", th_jsonf(call, "{}")) && th_error_kind_of(th_last_error(call)) == TH_INVALID);
    TRUE(th_send_event(call, "task-x", th_jsonf(call, "{'n': 1}")));
    th_log(TH_LOG_INFO, "line %d \xFF", 1);
    TRUE(th_config(call, "nothing") == NULL);
    IS(th_error_message(th_last_error(call)), "config `nothing` is lent by a host, and this is none");
    IS(th_config(call, "region"), "eu");
    IS(th_secret(call, "key"), "s3");
    TRUE(!th_cancelled(call) && th_sleep(call, 1) == false);
    TRUE(th_json_kind(th_json_get(th_request(call), "root_id")) == TH_STRING);
    const char *id = th_publish(call, th_signature(call, "t.other"));
    th_outcome outcome;
    TRUE(!th_wait(call, id, 1, &outcome) && th_error_kind_of(th_last_error(call)) == TH_UNAVAILABLE);
    TRUE(th_publish(call, th_kwargsf(th_signature(call, "t"), "5")) == NULL);
    TRUE(th_add_to_chord(call, th_signature(call, "t")).text == NULL);
    return TH_FAILED(call);
}
static bool longer(th_call *call, const char **data, size_t *length, void *with) {
    *data = th_format(call, "%s%s", *data == NULL ? "" : *data, (const char *)with);
    *length = strlen(*data);
    return true;
}
TASKHOST_TASK(keeps, "t.keeps") {
    th_bucket *bucket = th_bucket_open(call, "cache");
    int64_t sum;
    const char *data, **keys;
    size_t length, count;
    bool is_there, changed;
    TRUE(bucket != NULL && th_bucket_get(bucket, "a", &data, &length) && data == NULL);
    TRUE(th_bucket_set(bucket, "a", "x\0y", 3) && th_bucket_get(bucket, "a", &data, &length) && length == 3 && data[2] == 'y');
    TRUE(th_bucket_increment(bucket, "n", 2, &sum) && th_bucket_increment(bucket, "n", -5, &sum) && sum == -3);
    TRUE(th_bucket_update(bucket, "b", longer, (void *)"!", &changed) && changed);
    TRUE(th_bucket_update(bucket, "b", longer, (void *)"?", NULL));
    TRUE(th_bucket_get(bucket, "b", &data, NULL) && strcmp(data, "!?") == 0);
    TRUE(th_bucket_keys(bucket, &keys, &count) && count == 3);
    TRUE(th_bucket_delete(bucket, "a") && th_bucket_exists(bucket, "a", &is_there) && !is_there);
    return th_null(call);
}
TASKHOST_TASK(writes, "t.writes", .params = "how: int") {
    th_writer writer = th_write(call);
    switch (th_arg_int(call, "how")) {
    case 0:
        th_begin_object(&writer);
        th_key(&writer, "a");
        th_begin_array(&writer);
        th_put_null(&writer);
        th_put_bool(&writer, true);
        th_begin_object(&writer);
        th_end(&writer);
        th_end(&writer);
        th_key(&writer, "b");
        th_put_uint(&writer, UINT64_MAX);
        th_end(&writer);
        break;
    case 1:
        th_begin_object(&writer);
        th_put_null(&writer);
        th_end(&writer);
        break;
    case 2:
        th_begin_array(&writer);
        break;
    case 3:
        th_put_null(&writer);
        th_put_null(&writer);
        break;
    case 4:
        th_end(&writer);
        break;
    case 5:
        th_begin_array(&writer);
        th_key(&writer, "a");
        th_end(&writer);
        break;
    default:
        for (int i = 0; i < 2000; i++) {
            th_begin_array(&writer);
        }
    }
    return th_return(call, th_written(&writer));
}
TASKHOST_TASK(parses, "t.parses", .params = "text: str") {
    th_json json;
    const char *text = th_arg_str(call, "text");
    return th_json_parse(call, text, strlen(text), &json) ? th_int(call, th_json_kind(json)) : TH_FAILED(call);
}

/* ---- What is expected of them ----------------------------------------------------------------------------------- */

/* The result, or `type: message`. */
static void check(const char *task, const char *args, const char *kwargs, const char *expected, int line) {
    th_tested *tested = th_test(task, args, kwargs);
    char found[4096];
    if (tested->exc_type != NULL) {
        snprintf(found, sizeof found, "%s: %s", tested->exc_type, tested->message);
    } else {
        snprintf(found, sizeof found, "%s", tested->result == NULL ? tested->state : tested->result);
    }
    check_text(found, expected, task, __FILE__, line);
    th_test_free(tested);
}
#define CHECK(task, args, kwargs, expected) check(task, args, kwargs, expected, __LINE__)

static void arguments_are_bound_as_python_binds_them(void) {
    CHECK("t.noop", "[]", "{}", "null");
    CHECK("t.add", "[1, 2]", "{}", "3");
    CHECK("t.add", " [1] ", "{\"y\": 2}", "3");
    CHECK("t.add", "[]", "{\"y\": 2, \"\\u0078\": 1, \"y\": 3}", "4");
    CHECK("t.page", "[\"u\"]", "{}", "[\"u\", 8, 0.0, 1]");
    CHECK("t.page", "[\"u\"]", "{\"x\": 3}", "[\"u\", 8, 3.0, 0]");
    CHECK("t.page", "[\"\\ud83d\\ude00\\n\", -1, 2.5]", "{}", "[\"\xF0\x9F\x98\x80\\n\", -1, 2.5, 0]");
    CHECK("t.once", "[1]", "{}", "[1, [], 5, {}]");
    CHECK("t.once", "[1, 2, [3, NaN]]", "{\"expires\": 4}", "[1, [2,[3, NaN]], 4, {}]");
    CHECK("t.once", "[]", "{\"y\": {\"z\": 1}, \"x\": 2, \"a\\\"\": null}", "[2, [], 5, {\"y\":{\"z\": 1},\"a\\\"\":null}]");
    CHECK("t.named", "[]", "{\"key\": true}", "[\"yes\", \"yes\", \"it, \\\"is\\\"\"]");
}

static void wrong_arguments_are_type_errors_in_pythons_words(void) {
    CHECK("t.add", "[1]", "{}", "TypeError: add() missing 1 required positional argument: 'y'");
    CHECK("t.add", "[]", "{}", "TypeError: add() missing 2 required positional arguments: 'x' and 'y'");
    CHECK("t.sum", "[]", "{}", "TypeError: sum() missing 3 required positional arguments: 'a', 'b', and 'c'");
    CHECK("t.sum", "[1]", "{\"c\": 1}", "TypeError: sum() missing 1 required positional argument: 'b'");
    CHECK("t.add", "[1, 2, 3]", "{}", "TypeError: add() takes 2 positional arguments but 3 were given");
    CHECK("t.one", "[1, 2]", "{}", "TypeError: one() takes 1 positional argument but 2 were given");
    CHECK("t.noop", "[1]", "{}", "TypeError: noop() takes 0 positional arguments but 1 was given");
    CHECK("t.page", "[1, 2, 3, 4]", "{}", "TypeError: page() takes from 1 to 3 positional arguments but 4 were given");
    CHECK("t.add", "[1, 2, 3]", "{\"z\": 1}", "TypeError: add() got an unexpected keyword argument 'z'");
    CHECK("t.add", "[1]", "{\"x\": 1}", "TypeError: add() got multiple values for argument 'x'");
    CHECK("t.named", "[]", "{}", "TypeError: named() missing 1 required keyword-only argument: 'key'");
    CHECK("t.named", "[true]", "{}", "TypeError: named() takes 0 positional arguments but 1 was given");
    CHECK("t.add", "{}", "{}", "TypeError: add() the positional arguments are not a JSON array");
    CHECK("t.add", "[1, 2]", "[]", "TypeError: add() the keyword arguments are not a JSON object");
    CHECK("t.nobody", "[]", "{}", "NotRegistered: t.nobody");
}

static void values_of_other_types_are_refused_by_name(void) {
    CHECK("t.add", "[1, \"a\"]", "{}", "TypeError: add() argument 'y' must be int, not str");
    CHECK("t.add", "[1, 2.0]", "{}", "TypeError: add() argument 'y' must be int, not float");
    CHECK("t.add", "[1, true]", "{}", "TypeError: add() argument 'y' must be int, not bool");
    CHECK("t.add", "[1, 9223372036854775808]", "{}", "OverflowError: add() argument 'y': int does not fit into 64 bits");
    CHECK("t.add", "[-9223372036854775808, 1]", "{}", "-9223372036854775807");
    CHECK("t.page", "[5]", "{}", "TypeError: page() argument 'url' must be str, not int");
    CHECK("t.page", "[\"a\\u0000b\"]", "{}", "ValueError: page() argument 'url': embedded null character");
    CHECK("t.page", "[\"a\"]", "{\"x\": []}", "TypeError: page() argument 'x' must be float or None, not list");
}

static void json_is_written_as_python_reads_it(void) {
    CHECK("t.formats", "[]", "{}",
          "{\"a\": -5, \"b\": [5, -9223372036854775808, 7], \"c\": \"q\\\"\\n\\u0001\", \"d\": \"ab\", \"e\": \"x\\\\y\\\"\", "
          "\"f\": [NaN, 1], \"g\": null, \"h\": \"'%\"}");
    CHECK("t.numbers", "[]", "{}",
          "[0.0, -0.0, 1.0, 1000000000000000.0, 1e+16, 0.1, 1e-05, 123456.789, 5e-324, 1.7976931348623157e+308, 0.3333333333333333]");
    CHECK("t.odd", "[]", "{}", "[NaN, Infinity, -Infinity]");
    CHECK("t.strings", "[\"\\u00fc\\ud83d\\ude00\\/\\t\"]", "{}", "\"\xC3\xBC\xF0\x9F\x98\x80/\\t\"");
    CHECK("t.strings", "[\"a\\ud800b\\u0000\"]", "{}", "\"a\\ud800b\\u0000\"");
    CHECK("t.strings", "[\"\xFF\xC3\"]", "{}", "\"\xEF\xBF\xBD\xEF\xBF\xBD\"");
    CHECK("t.strings", "[5]", "{}", "ValueError: no text");
    CHECK("t.writes", "[0]", "{}", "{\"a\":[null,true,{}],\"b\":18446744073709551615}");
    CHECK("t.writes", "[1]", "{}", "TypeError: not JSON: a member of an object has no key");
    CHECK("t.writes", "[2]", "{}", "TypeError: not JSON: an array or object was not ended");
    CHECK("t.writes", "[3]", "{}", "TypeError: not JSON: there are several values and no array around them");
    CHECK("t.writes", "[4]", "{}", "TypeError: not JSON: more was ended than begun");
    CHECK("t.writes", "[5]", "{}", "TypeError: not JSON: a key is outside of an object");
    CHECK("t.writes", "[6]", "{}", "TypeError: not JSON: it is nested deeper than 1000 levels");
}

static void what_is_no_json_is_refused_with_its_place(void) {
    CHECK("t.parses", "[\" {\\\"a\\\": [1, -2.5e3, NaN, -Infinity, \\\"\\\\u00fc\\\", true, {}]} \"]", "{}", "7");
    CHECK("t.parses", "[\"[1 2]\"]", "{}", "JSONDecodeError: the text is no JSON (at byte 3)");
    CHECK("t.parses", "[\"[1,]\"]", "{}", "JSONDecodeError: the text is no JSON (at byte 3)");
    CHECK("t.parses", "[\"{1:2}\"]", "{}", "JSONDecodeError: the text is no JSON (at byte 1)");
    CHECK("t.parses", "[\"[1}\"]", "{}", "JSONDecodeError: the text is no JSON (at byte 2)");
    CHECK("t.parses", "[\"1 2\"]", "{}", "JSONDecodeError: the text has more behind its end (at byte 2)");
    CHECK("t.parses", "[\"\"]", "{}", "JSONDecodeError: the text ends too early (at byte 0)");
    CHECK("t.parses", "[\"01\"]", "{}", "JSONDecodeError: the text is no JSON (at byte 0)");
    CHECK("t.parses", "[\"\\\"\\\\x\\\"\"]", "{}", "JSONDecodeError: the text is no JSON (at byte 1)");
    char deep[2048] = "[\"", expected[] = "JSONDecodeError: the text is nested too deep (at byte 1000)";
    memset(deep + 2, '[', 1500);
    strcpy(deep + 1502, "\"]");
    CHECK("t.parses", deep, "{}", expected);
}

static void a_task_ends_as_it_says(void) {
    th_tested *tested = th_test("t.ends", "[\"retry\"]", NULL);
    IS(tested->state, "RETRY");
    TRUE(tested->countdown < 0 && tested->exc_type == NULL && tested->retry_args == NULL);
    th_test_free(tested);
    tested = th_test("t.ends", "[\"retry now\"]", NULL);
    TRUE(tested->countdown == 0);
    IS(tested->exc_type, "E");
    IS(tested->retry_args, "[1]");
    th_test_free(tested);
    CHECK("t.ends", "[\"reject\"]", NULL, "REJECTED");
    CHECK("t.ends", "[\"ignore\"]", NULL, "IGNORED");
    CHECK("t.ends", "[\"replace\"]", NULL,
          "{\"task\":\"t.other\",\"args\":[1],\"kwargs\":{},\"options\":{},\"subtask_type\":null,\"immutable\":false}");
    CHECK("t.ends", "[\"bad retry\"]", NULL, "TypeError: the arguments of a retry are not a JSON array");
    CHECK("t.ends", "[\"bad replace\"]", NULL, "TypeError: a signature of t.other: the positional arguments are not a JSON array");
    CHECK("t.forgets", NULL, NULL, "TaskError: the task function returned without a result");
}

enum { HERE = __LINE__ }; /* the lines of the next few functions are in the traceback */
static th_error *deepest(th_call *call) { return TH_ERROR(call, "E", NULL); }
static th_result deeper(th_call *call) { return TH_RAISE(call, deepest(call)); }
TASKHOST_TASK(deep, "t.deep") {
    deeper(call);
    return TH_FAILED(call);
}

static void an_error_has_a_traceback_and_arguments(void) {
    char expected[512];
    th_tested *tested = th_test("t.deep", NULL, NULL);
    snprintf(expected, sizeof expected,
             "Traceback (most recent call last):\n  File \"tests.c\", line %d, in deep\n  File \"tests.c\", line %d, in deeper\n"
             "  File \"tests.c\", line %d, in deepest\nE\n",
             HERE + 5, HERE + 2, HERE + 1);
    IS(tested->traceback, expected);
    IS(tested->arguments, "[]");
    th_test_free(tested);
    tested = th_test("t.fail", NULL, NULL);
    IS(tested->exc_module, "mine");
    IS(tested->arguments, "[\"100% \xEF\xBF\xBD\"]");
    TRUE(strstr(tested->traceback, "in fail\nKeyError: k\n\nThe above exception was the direct cause of the following exception:\n\nTraceback") != NULL);
    TRUE(strstr(tested->traceback, "\nmine.Own: 100%") != NULL);
    th_test_free(tested);
}

static void what_a_task_does_meanwhile_is_recorded(void) {
    th_tested *tested = th_test_with((th_test_call){.task = "t.says", .request = "{\"root_id\": \"r\"}", .config = "{\"region\": \"eu\"}",
                                                    .secrets = "{\"key\": \"s3\"}", .cancelled_after = 1});
    IS(tested->message, "Current task is not member of any chord");
    IS(tested->states, "[[\"PROGRESS\",{\"current\":1,\"total\":2}]]");
    IS(tested->events, "[[\"task-x\",{\"n\": 1}]]");
    IS(tested->log, "[\"line 1 \xEF\xBF\xBD\"]");
    IS(tested->published, "[{\"task\":\"t.other\",\"args\":[],\"kwargs\":{},\"options\":{},\"subtask_type\":null,\"immutable\":false}]");
    th_test_free(tested);
    CHECK("t.keeps", NULL, NULL, "null");
    th_test_forget();
}

static void a_task_is_described(void) {
    th_tested *tested = th_test_describe();
    TRUE(strstr(tested->result,
                "{\"name\":\"t.add\",\"summary\":\"Adds.\",\"schema\":{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"integer\"},"
                "\"y\":{\"type\":\"integer\"}},\"required\":[\"x\",\"y\"],\"additionalProperties\":false},\"options\":{\"max_retries\":null,"
                "\"default_retry_delay\":0.5,\"autoretry_for\":[\"ConnectionError\",\"TimeoutError\"],\"retry_backoff\":true,"
                "\"acks_late\":false,\"compression\":\"gzip\",\"throws\":[\"100%\"]}}") != NULL);
    TRUE(strstr(tested->result, "\"properties\":{\"x\":{},\"expires\":{\"type\":\"integer\",\"default\":5}},\"required\":[\"x\"],"
                                "\"additionalProperties\":true,\"x-args\":1}") != NULL);
    TRUE(strstr(tested->result, "\"x\":{\"type\":[\"number\",\"null\"],\"default\":null}") != NULL);
    th_test_free(tested);
}

void canvases_are_composed_as_celery_does(const char *file);

int main(int count, char **arguments) {
    TRUE(count == 2);
    arguments_are_bound_as_python_binds_them();
    wrong_arguments_are_type_errors_in_pythons_words();
    values_of_other_types_are_refused_by_name();
    json_is_written_as_python_reads_it();
    what_is_no_json_is_refused_with_its_place();
    a_task_ends_as_it_says();
    an_error_has_a_traceback_and_arguments();
    what_a_task_does_meanwhile_is_recorded();
    a_task_is_described();
    canvases_are_composed_as_celery_does(arguments[1]);
    puts("tests: ok");
    return 0;
}
