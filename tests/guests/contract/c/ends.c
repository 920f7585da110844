/* All the ways in which a task can end. */
#include "taskhost.h"

#include <stdlib.h>
#include <string.h>

static th_result deeper(th_call *call) {
    return TH_RAISE(call, th_error_module(TH_ERROR(call, "ContractError", "own trouble"), "contract"));
}

TASKHOST_TASK(fail, "contract.fail", .summary = "Fails.", .params = "kind: str = 'value'") {
    const char *kind = th_arg_str(call, "kind");
    if (strcmp(kind, "own") == 0) {
        deeper(call);
        return TH_FAILED(call);
    }
    if (strcmp(kind, "chained") == 0) {
        th_error *inner = TH_ERROR(call, "ValueError", "inner");
        th_error *outer = th_error_module(TH_ERROR(call, "ContractError", "outer"), "contract");
        return TH_RAISE(call, th_error_cause(outer, inner));
    }
    if (strcmp(kind, "empty") == 0) {
        return TH_RAISE(call, th_error_module(TH_ERROR(call, "ContractError", NULL), "contract"));
    }
    th_error *error = TH_ERROR(call, "ValueError", "bad value");
    return TH_RAISE(call, th_error_arguments(error, th_jsonf(call, "['bad value', 42]")));
}

TASKHOST_TASK(crash, "contract.crash", .summary = "Has a bug.") {
    (void)call;
    abort();
}

TASKHOST_TASK(retry, "contract.retry", .summary = "Is run again.", .params = "times: int = 2, countdown: float = 0",
              .max_retries = TH_NONE) {
    if (th_retries(call) < th_arg_int(call, "times")) {
        return TH_RETRY(call, .countdown = th_arg_double(call, "countdown"),
                        .cause = TH_ERROR(call, "ConnectionError", "attempt %u", (unsigned)th_retries(call) + 1));
    }
    return th_int(call, th_retries(call));
}

TASKHOST_TASK(retry_args, "contract.retry_args", .summary = "Is run again with something else.", .params = "word: str") {
    if (th_retries(call) == 0) {
        return TH_RETRY(call, .countdown = 0, .args = th_jsonf(call, "['second']"));
    }
    return th_str(call, th_arg_str(call, "word"));
}

TASKHOST_TASK(give_up, "contract.give_up", .summary = "Never succeeds.", .max_retries = 1, .default_retry_delay = 0) {
    return TH_RETRY(call, .cause = TH_ERROR(call, "ValueError", "never"));
}

TASKHOST_TASK(unsteady, "contract.unsteady", .summary = "Fails at first.", .params = "times: int = 1", .max_retries = 2,
              .default_retry_delay = 0, .autoretry_for = "ConnectionError") {
    if (th_retries(call) < th_arg_int(call, "times")) {
        return TH_FAIL(call, "ConnectionError", "attempt %u", (unsigned)th_retries(call) + 1);
    }
    return th_int(call, th_retries(call));
}

TASKHOST_TASK(reject, "contract.reject", .summary = "Gives its message back.", .params = "requeue: bool = false") {
    return th_reject(call, th_arg_bool(call, "requeue"));
}

TASKHOST_TASK(ignore, "contract.ignore", .summary = "Leaves nothing.") { return th_ignore(call); }

TASKHOST_TASK(replace, "contract.replace", .summary = "Lets another take its place.", .params = "task: str, args: list") {
    return th_replace(call, th_args(th_signature(call, th_arg_str(call, "task")), th_arg(call, "args")));
}
