/* Arguments and values. */
#include "taskhost.h"

TASKHOST_TASK(add, "contract.add", .summary = "Adds two numbers.", .params = "x: int | float, y: int | float") {
    th_json x = th_arg(call, "x"), y = th_arg(call, "y");
    if (th_json_kind(x) != TH_INT || th_json_kind(y) != TH_INT) {
        return th_double(call, th_arg_double(call, "x") + th_arg_double(call, "y"));
    }
    int64_t a, b, sum;
    if (!th_json_int(x, &a) || !th_json_int(y, &b) || __builtin_add_overflow(a, b, &sum)) {
        return TH_FAIL(call, "OverflowError", "the sum does not fit into 64 bits");
    }
    return th_int(call, sum);
}

TASKHOST_TASK(echo, "contract.echo", .summary = "Returns what it gets.", .params = "value") {
    return th_return(call, th_arg(call, "value"));
}

/* Reads a value into C's own, and writes it. */
static bool write(th_call *call, th_writer *writer, th_json json) {
    int64_t integer;
    double number;
    bool flag;
    size_t length;
    switch (th_json_kind(json)) {
    case TH_NULL:
        th_put_null(writer);
        return true;
    case TH_BOOL:
        if (!th_json_bool(json, &flag)) {
            return false;
        }
        th_put_bool(writer, flag);
        return true;
    case TH_INT:
        if (!th_json_int(json, &integer)) {
            TH_ERROR(call, "OverflowError", "%.*s does not fit into 64 bits", json.length > 40 ? 40 : (int)json.length, json.text);
            return false;
        }
        th_put_int(writer, integer);
        return true;
    case TH_FLOAT:
        if (!th_json_double(json, &number)) {
            return false;
        }
        th_put_double(writer, number);
        return true;
    case TH_STRING: {
        const char *text = th_json_str(call, json, &length);
        if (text == NULL) {
            return false;
        }
        th_put_text(writer, text, length);
        return true;
    }
    case TH_ARRAY:
        th_begin_array(writer);
        for (th_items it = th_json_items(json); th_next(&it);) {
            if (!write(call, writer, it.value)) {
                return false;
            }
        }
        th_end(writer);
        return true;
    case TH_OBJECT:
        th_begin_object(writer);
        for (th_items it = th_json_items(json); th_next(&it);) {
            const char *key = th_json_str(call, it.key, &length);
            if (key == NULL) {
                return false;
            }
            th_key_text(writer, key, length);
            if (!write(call, writer, it.value)) {
                return false;
            }
        }
        th_end(writer);
        return true;
    case TH_MISSING:
        break;
    }
    return false;
}

TASKHOST_TASK(parsed, "contract.parsed", .summary = "Reads a value and writes it again.", .params = "value") {
    th_writer writer = th_write(call);
    if (!write(call, &writer, th_arg(call, "value"))) {
        return TH_FAILED(call);
    }
    return th_return(call, th_written(&writer));
}

TASKHOST_TASK(greet, "contract.greet", .summary = "Greets somebody.",
              .params = "name: str, greeting: str = 'Hello', punctuation: str = '!'") {
    return th_returnf(call, "'%s, %s%s'", th_arg_str(call, "greeting"), th_arg_str(call, "name"),
                      th_arg_str(call, "punctuation"));
}

TASKHOST_TASK(collect, "contract.collect", .summary = "Returns all that it gets.", .params = "*args, **kwargs") {
    th_json args = th_rest(call), kwargs = th_keywords(call);
    return th_returnf(call, "{'args': %p, 'kwargs': %p}", (void *)&args, (void *)&kwargs);
}

TASKHOST_TASK(sum, "contract.sum", .summary = "Adds a list of numbers.", .params = "numbers: list") {
    int64_t sum = 0, one;
    for (th_items it = th_json_items(th_arg(call, "numbers")); th_next(&it);) {
        if (!th_json_int(it.value, &one) || __builtin_add_overflow(sum, one, &sum)) {
            return TH_FAIL(call, "TypeError", "%.*s is no number to be added", (int)it.value.length, it.value.text);
        }
    }
    return th_int(call, sum);
}

TASKHOST_TASK(options, "contract.options", .summary = "Has every option.", .max_retries = 7, .default_retry_delay = 1.5,
              .retry_backoff = true, .time_limit = 20, .soft_time_limit = 10, .rate_limit = "10/m", .queue = "slow",
              .acks_late = false, .ignore_result = false, .track_started = true) {
    return th_null(call);
}
