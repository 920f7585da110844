/* Canvases, as they are composed. */
#include "taskhost.h"

#include <string.h>

static th_sig named(th_call *call, const char *name) {
    th_sig a = th_signature(call, "t.a"), b = th_signature(call, "t.b"), c = th_signature(call, "t.c");
    th_sig d = th_signature(call, "t.d"), e = th_signature(call, "t.e"), f = th_signature(call, "t.f");
    th_sig a1 = th_argsf(a, "[1]"), a2 = th_argsf(a, "[2]");
#define IS(expected) (strcmp(name, expected) == 0)
    if (IS("call")) {
        return th_kwargsf(th_argsf(a, "[1, 2]"), "{'z': 3}");
    }
    if (IS("options")) {
        th_sig sig = th_optionf(th_optionf(a, "queue", "%s", "slow"), "priority", "5");
        return th_optionf(th_optionf(th_countdown(sig, 1.5), "expires", "60"), "task_id", "'abc'");
    }
    if (IS("immutable")) {
        return th_immutable(a1);
    }
    if (IS("partial")) {
        return th_partialf(a2, "[1]");
    }
    if (IS("link")) {
        return th_link_error(th_link(a, b), c);
    }
    if (IS("chain")) {
        return th_chain(call, a1, b, c);
    }
    if (IS("chain_group")) {
        return th_chain(call, a1, th_group(call, b, c), d);
    }
    if (IS("group")) {
        return th_group(call, a1, a2);
    }
    if (IS("chord")) {
        return th_chord(call, b, a1, a2);
    }
    if (IS("chord_chain")) {
        return th_then(th_chord(call, b, a1, a2), c);
    }
    if (IS("chunks")) {
        return th_chunks(a, th_jsonf(call, "[[1,2],[3,4],[5,6]]"), 2);
    }
    if (IS("map")) {
        return th_xmap(a, th_jsonf(call, "[1, 2]"));
    }
    if (IS("starmap")) {
        return th_xstarmap(a, th_jsonf(call, "[[1, 2], [3, 4]]"));
    }
    if (IS("stamp")) {
        return th_stamp(th_group(call, a1, th_link(b, c)), "tenant", th_jsonf(call, "'x'"));
    }
    if (IS("linked_chain")) {
        return th_link_error(th_link(th_then(a, b), c), d);
    }
    if (IS("linked_group")) {
        return th_link_error(th_link(th_group(call, a, b), c), d);
    }
    if (IS("linked_chord")) {
        return th_link_error(th_link(th_chord(call, c, a, b), d), e);
    }
    if (IS("nested")) {
        return th_chain(call, a, th_group(call, th_then(b, c), th_group(call, d, e)), f);
    }
    if (IS("single")) {
        return th_chain(call, th_group(call, a), b);
    }
    return NULL;
}

TASKHOST_TASK(compose, "contract.compose", .summary = "Composes a canvas.", .params = "name: str") {
    th_sig sig = named(call, th_arg_str(call, "name"));
    return sig == NULL ? TH_FAIL(call, "ValueError", "there is no canvas %s", th_arg_str(call, "name"))
                       : th_return(call, th_sig_json(sig));
}

TASKHOST_TASK(become, "contract.become", .summary = "Is replaced by a canvas.", .params = "name: str") {
    const char *name = th_arg_str(call, "name");
    th_sig add = th_signature(call, "contract.add"), pairs[3];
    for (int i = 1; i <= 3; i++) {
        pairs[i - 1] = th_argsf(add, "[%d, %d]", i, i);
    }
    if (IS("chain")) {
        return th_replace(call, th_then(th_argsf(add, "[1, 2]"), th_argsf(add, "[10]")));
    }
    if (IS("group")) {
        return th_replace(call, th_group_of(call, pairs, 3));
    }
    if (IS("chord")) {
        return th_replace(call, th_chord_of(call, pairs, 3, th_signature(call, "contract.sum")));
    }
    return TH_FAIL(call, "ValueError", "there is no canvas %s", name);
}
