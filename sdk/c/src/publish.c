/* Calls of other tasks, and what became of them. */
#include "internal.h"

#include <string.h>

/* What the host gave, or without text and with an error. */
static th_json told(th_call *call, const char *type, answer answer) {
    if (answer.is_ok) {
        return (th_json){answer.text.data, answer.text.length};
    }
    refused(call, type, answer);
    return NO_JSON;
}

/* The text of a signature; false, and a PublishError, if it is none. */
static bool text_of_sig(th_call *call, th_sig signature, text *out) {
    th_json json = signature == NULL ? NO_JSON : th_sig_json(signature);
    *out = (text){json.text, json.length};
    if (json.text == NULL) {
        const char *why = signature == NULL ? "there is no signature" : call->last_error->message;
        make_error(call, "PublishError", TH_INVALID, why);
    }
    return json.text != NULL;
}

static const char *send(th_call *call, th_sig signature, bool now) {
    text text;
    if (!text_of_sig(call, signature, &text)) {
        return NULL;
    }
    th_json id = told(call, "PublishError", host_send(call, text, now));
    return id.text == NULL ? NULL : copy(call, id.text, id.length);
}

const char *th_publish(th_call *call, th_sig signature) { return send(call, signature, false); }
const char *th_publish_now(th_call *call, th_sig signature) { return send(call, signature, true); }

static th_json apply(th_call *call, th_sig signature, bool now) {
    text text;
    return text_of_sig(call, signature, &text) ? told(call, "PublishError", host_apply(call, text, now)) : NO_JSON;
}

th_json th_apply(th_call *call, th_sig signature) { return apply(call, signature, false); }
th_json th_apply_now(th_call *call, th_sig signature) { return apply(call, signature, true); }

th_json th_add_to_chord(th_call *call, th_sig signature) {
    th_kind chord = th_json_kind(th_json_get(th_request(call), "chord"));
    if (chord == TH_MISSING || chord == TH_NULL) {
        make_error(call, "ValueError", TH_INVALID, "Current task is not member of any chord");
        return NO_JSON;
    }
    text text;
    return text_of_sig(call, signature, &text) ? told(call, "PublishError", host_add_to_chord(call, text)) : NO_JSON;
}

static bool outcome(th_call *call, answer answer, th_outcome *out) {
    th_json meta = told(call, "ResultError", answer);
    if (meta.text == NULL) {
        return false;
    }
    *out = (th_outcome){.state = "", .result = json_of("null"), .meta = meta};
    for (th_items it = th_json_items(meta); th_next(&it);) {
        if (key_is(it.key, "state")) {
            const char *state = th_json_str(call, it.value, NULL);
            out->state = state == NULL ? "" : state;
        } else if (key_is(it.key, "result")) {
            out->result = it.value;
        } else if (key_is(it.key, "traceback")) {
            out->traceback = th_json_str(call, it.value, NULL);
        }
    }
    return true;
}

bool th_outcome_of(th_call *call, const char *id, th_outcome *out) {
    return outcome(call, host_result(call, valid(call, id)), out);
}

static uint64_t milliseconds(double seconds) {
    return seconds > 0 ? seconds < 1e12 ? (uint64_t)(seconds * 1000) : (uint64_t)1000000000000000u : 0;
}

bool th_wait(th_call *call, const char *id, double seconds, th_outcome *out) {
    return outcome(call, host_wait(call, valid(call, id), milliseconds(seconds)), out);
}

/* ---- All members of what was applied ---------------------------------------------------------------------------- */

#define JOIN_DEPTH_MAX 200

/* Where one is in it. */
typedef struct joining {
    th_call *call;
    double seconds;
    uint64_t started_ms; /* until the hard limit, which is a clock that all tasks have */
    th_outcome *list;
    size_t count, room;
} joining;

static bool no_tuple(th_call *call) {
    make_error(call, "ResultError", TH_INVALID, "not the result of a call: no [[id, parent], children]");
    return false;
}

static bool join_one(joining *joining, th_json tuple, unsigned depth) {
    th_call *call = joining->call;
    th_json children = th_json_at(tuple, 1);
    if (th_json_count(tuple) != 2 || depth == JOIN_DEPTH_MAX) {
        return no_tuple(call);
    }
    if (th_json_kind(children) == TH_ARRAY) {
        for (th_items it = th_json_items(children); th_next(&it);) {
            if (!join_one(joining, it.value, depth + 1)) {
                return false;
            }
        }
        return true;
    }
    const char *id = th_json_str(call, th_json_at(th_json_at(tuple, 0), 0), NULL);
    if (id == NULL) {
        return no_tuple(call);
    }
    if (joining->count == joining->room) {
        size_t room = joining->room == 0 ? 8 : joining->room * 2;
        th_outcome *list = th_alloc(call, room * sizeof *list);
        if (joining->count > 0) {
            memcpy(list, joining->list, joining->count * sizeof *list);
        }
        joining->list = list;
        joining->room = room;
    }
    uint64_t now_ms = host_remaining_ms(call);
    double passed = now_ms < joining->started_ms ? (double)(joining->started_ms - now_ms) / 1000 : 0;
    return th_wait(call, id, joining->seconds - passed, &joining->list[joining->count++]);
}

bool th_join(th_call *call, th_json applied, double seconds, th_outcome **out, size_t *count) {
    joining joining = {.call = call, .seconds = seconds, .started_ms = host_remaining_ms(call)};
    bool is_joined = join_one(&joining, applied, 0);
    *out = joining.list;
    *count = joining.count;
    return is_joined;
}
