/* What a task may know about the call it serves, say about it, and borrow from the operator. */
#include "internal.h"

#include <string.h>

th_error *refused(th_call *call, const char *type, answer answer) {
    return make_error(call, type, answer.kind, copy(call, answer.text.data, answer.text.length));
}

const char *th_id(th_call *call) { return call->id.data; }
const char *th_task_name(th_call *call) { return call->task.data; }
uint32_t th_retries(th_call *call) { return call->retries; }
bool th_cancelled(th_call *call) { return host_cancelled(call); }
double th_remaining(th_call *call) { return (double)host_remaining_ms(call) / 1000; }

th_json th_request(th_call *call) {
    if (call->request.text == NULL) {
        text told = host_request(call);
        call->request = (th_json){told.data, told.length};
    }
    return call->request;
}

bool th_sleep(th_call *call, double seconds) {
    if (seconds > 0) {
        double nanoseconds = seconds * 1e9;
        host_sleep(call, nanoseconds < 1e18 ? (uint64_t)nanoseconds : (uint64_t)1000000000000000000u);
    }
    return !host_cancelled(call);
}

static bool update_state(th_call *call, const char *state, th_json meta) {
    if (meta.text == NULL) {
        make_error(call, "UpdateError", TH_INVALID, "the meta has no value");
        return false;
    }
    answer answer = host_update_state(call, valid(call, state), (text){meta.text, meta.length});
    if (!answer.is_ok) {
        refused(call, "UpdateError", answer);
    }
    return answer.is_ok;
}

bool th_update_state(th_call *call, const char *state, th_json meta) { return update_state(call, state, meta); }

void th_progress(th_call *call, uint64_t current, uint64_t total) {
    th_error *before = call->last_error;
    th_writer writer = th_write(call);
    th_begin_object(&writer);
    th_key(&writer, "current");
    th_put_uint(&writer, current);
    th_key(&writer, "total");
    th_put_uint(&writer, total);
    th_end(&writer);
    update_state(call, "PROGRESS", th_written(&writer));
    call->last_error = before; /* the task need not care */
}

bool th_send_event(th_call *call, const char *kind, th_json fields) {
    if (fields.text == NULL) {
        make_error(call, "EventError", TH_INVALID, "the fields have no value");
        return false;
    }
    answer answer = host_send_event(call, valid(call, kind), (text){fields.text, fields.length});
    if (!answer.is_ok) {
        refused(call, "EventError", answer);
    }
    return answer.is_ok;
}

const char *th_config(th_call *call, const char *key) {
    answer answer = host_config(call, valid(call, key));
    if (answer.is_ok && answer.text.data != NULL) {
        return copy(call, answer.text.data, answer.text.length);
    }
    if (answer.is_ok) {
        make_error(call, "ConfigError", TH_UNAVAILABLE, join(call, "config `", key, "` has no value", NULL));
    } else {
        refused(call, "ConfigError", answer);
    }
    return NULL;
}

const char *th_secret(th_call *call, const char *name) {
    answer answer = host_secret(call, valid(call, name));
    if (!answer.is_ok) {
        refused(call, "SecretError", answer);
        return NULL;
    }
    return copy(call, answer.text.data, answer.text.length);
}
