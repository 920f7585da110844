/* Limits, and what a task sees of them. */
#include "taskhost.h"

#include <stdlib.h>
#include <string.h>

TASKHOST_TASK(graceful, "contract.graceful", .summary = "Ends by itself.", .params = "seconds: float = 60", .time_limit = 30,
              .soft_time_limit = 1, .handles_soft_limit = true) {
    for (double left = th_arg_double(call, "seconds"); left > 0; left -= 0.01) {
        if (!th_sleep(call, 0.01)) {
            return th_str(call, "cancelled");
        }
    }
    return th_str(call, "finished");
}

TASKHOST_TASK(soft, "contract.soft", .summary = "Is too slow.", .time_limit = 30, .soft_time_limit = 1) {
    th_sleep(call, 20);
    return th_null(call);
}

TASKHOST_TASK(spin, "contract.spin", .summary = "Never ends.", .time_limit = 1) {
    (void)call;
    for (volatile unsigned turns = 0;; turns = turns + 1) {
    }
}

TASKHOST_TASK(hog, "contract.hog", .summary = "Takes all memory.") {
    for (;;) {
        memset(th_alloc(call, 1 << 20), 1, 1 << 20);
    }
}

/* Too deep for any stack; the compiler cannot make a loop of it. */
static unsigned depth(volatile unsigned *above) {
    volatile unsigned here = *above + 1;
    return here == UINT32_MAX ? here : depth(&here) + here;
}

TASKHOST_TASK(recurse, "contract.recurse", .summary = "Calls itself without end.") {
    volatile unsigned none = 0;
    return th_int(call, depth(&none));
}

TASKHOST_TASK(flood, "contract.flood", .summary = "Returns a long text.", .params = "megabytes: int") {
    size_t length = (size_t)th_arg_int(call, "megabytes") * 1000000;
    char *text = th_alloc(call, length);
    memset(text, 'x', length);
    return th_text(call, text, length);
}
