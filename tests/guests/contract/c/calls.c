/* What a task says and asks while it runs. */
#include "taskhost.h"

#include <stdio.h>
#include <string.h>

TASKHOST_TASK(progress, "contract.progress", .summary = "Tells how far it is.", .params = "steps: int = 3") {
    int64_t steps = th_arg_int(call, "steps");
    for (int64_t step = 1; step <= steps; step++) {
        th_progress(call, (uint64_t)step, (uint64_t)steps);
    }
    if (!th_update_state(call, "CUSTOM", th_jsonf(call, "{'note': %s}", "ü"))) {
        return TH_FAILED(call);
    }
    return th_int(call, steps);
}

TASKHOST_TASK(report, "contract.report", .summary = "Tries to store a state.", .params = "state: str") {
    if (th_update_state(call, th_arg_str(call, "state"), th_jsonf(call, "{}"))) {
        return th_null(call);
    }
    return th_str(call, th_error_message(th_last_error(call)));
}

TASKHOST_TASK(event, "contract.event", .summary = "Tells monitors something.", .params = "kind: str") {
    return th_send_event(call, th_arg_str(call, "kind"), th_jsonf(call, "{'x': 1}")) ? th_null(call) : TH_FAILED(call);
}

TASKHOST_TASK(context, "contract.context", .summary = "Tells what it knows about its call.") {
    th_json request = th_request(call), root = th_json_get(request, "root_id");
    th_json queue = th_json_get(th_json_get(request, "delivery_info"), "routing_key");
    return th_returnf(call, "{'id': %s, 'task': %s, 'retries': %u, 'cancelled': %p, 'remaining': %g, 'root_id': %p, 'queue': %p}",
                      th_id(call), th_task_name(call), (unsigned)th_retries(call),
                      (void *)&(th_json){th_cancelled(call) ? "true" : "false", th_cancelled(call) ? 4 : 5}, th_remaining(call),
                      (void *)&root, (void *)&queue);
}

TASKHOST_TASK(publish, "contract.publish", .summary = "Calls another task.",
              .params = "task: str, args: list, now: bool = false, fail: bool = false") {
    th_sig sig = th_args(th_signature(call, th_arg_str(call, "task")), th_arg(call, "args"));
    const char *id = th_arg_bool(call, "now") ? th_publish_now(call, sig) : th_publish(call, sig);
    if (id == NULL) {
        return TH_FAILED(call);
    }
    if (th_arg_bool(call, "fail")) {
        return TH_FAIL(call, "ValueError", "after it was published");
    }
    return th_str(call, id);
}

TASKHOST_TASK(apply, "contract.apply", .summary = "Calls a canvas.", .params = "canvas: dict") {
    th_sig sig = th_sig_read(call, th_arg(call, "canvas"));
    th_json applied = sig == NULL ? (th_json){NULL, 0} : th_apply_now(call, sig);
    return applied.text == NULL ? TH_FAILED(call) : th_return(call, applied);
}

TASKHOST_TASK(ask, "contract.ask", .summary = "Calls another task and waits for it.",
              .params = "task: str, args: list, timeout: float = 20") {
    th_sig sig = th_args(th_signature(call, th_arg_str(call, "task")), th_arg(call, "args"));
    const char *id = th_publish_now(call, sig);
    th_outcome outcome;
    if (id == NULL || !th_wait(call, id, th_arg_double(call, "timeout"), &outcome)) {
        return TH_FAILED(call);
    }
    return th_return(call, outcome.result);
}

TASKHOST_TASK(extend, "contract.extend", .summary = "Adds to its chord.", .params = "items: list") {
    for (th_items it = th_json_items(th_arg(call, "items")); th_next(&it);) {
        th_sig sig = th_argsf(th_signature(call, "contract.add"), "[%p, 0]", (void *)&it.value);
        if (th_add_to_chord(call, sig).text == NULL) {
            return TH_FAILED(call);
        }
    }
    return th_int(call, 0);
}

TASKHOST_TASK(log_lines, "contract.log", .summary = "Writes to its log.", .params = "text: str") {
    const char *text = th_arg_str(call, "text");
    th_log(TH_LOG_INFO, "%s", text);
    th_log(TH_LOG_WARN, "warning: %s", text);
    printf("stdout: %s\n", text);
    fprintf(stderr, "stderr: %s\n", text);
    return th_null(call);
}

TASKHOST_TASK(config, "contract.config", .summary = "Reads a setting.", .params = "key: str") {
    const char *value = th_config(call, th_arg_str(call, "key"));
    return value == NULL ? TH_FAILED(call) : th_str(call, value);
}

TASKHOST_TASK(secret, "contract.secret", .summary = "Tells how long a secret is.", .params = "name: str") {
    const char *value = th_secret(call, th_arg_str(call, "name"));
    return value == NULL ? TH_FAILED(call) : th_uint(call, strlen(value));
}

TASKHOST_TASK(keep, "contract.keep", .summary = "Keeps a value.", .params = "bucket: str, key: str, value: str") {
    const char *key = th_arg_str(call, "key"), *value = th_arg_str(call, "value"), *kept;
    size_t length;
    int64_t n;
    th_bucket *bucket = th_bucket_open(call, th_arg_str(call, "bucket"));
    if (bucket == NULL || !th_bucket_set(bucket, key, value, strlen(value)) || !th_bucket_get(bucket, key, &kept, &length) ||
        !th_bucket_increment(bucket, "n", 2, &n)) {
        return TH_FAILED(call);
    }
    return th_returnf(call, "[%.*s, %lld]", (int)length, kept, (long long)n);
}
