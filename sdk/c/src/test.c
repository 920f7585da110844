/* What stands for the host in unit tests. */
#include "internal.h"

#ifndef __wasm__
#include "taskhost_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct recording {
    th_test_call said;
    unsigned questions, published;
    th_writer sent, states, events;
} recording;

/* A line can be written outside of a call. */
static th_writer *lines;

static answer ok(text text) { return (answer){.is_ok = true, .text = text}; }
static answer no(th_error_kind kind, const char *why) { return (answer){false, kind, text_of(why)}; }

text host_request(th_call *call) {
    const char *request = call->recording->said.request;
    return text_of(request == NULL ? "{}" : request);
}

bool host_cancelled(th_call *call) {
    recording *recording = call->recording;
    return recording->said.cancelled_after > 0 && ++recording->questions > recording->said.cancelled_after;
}

uint64_t host_remaining_ms(th_call *call) {
    (void)call;
    return 1800000;
}

bool host_sleep(th_call *call, uint64_t nanoseconds) {
    (void)call;
    (void)nanoseconds;
    return true;
}

static void record(th_writer *writer, text name, text value) {
    th_begin_array(writer);
    th_put_text(writer, name.data, name.length);
    th_put(writer, (th_json){value.data, value.length});
    th_end(writer);
}

answer host_update_state(th_call *call, text state, text meta) {
    static const char *const ends[] = {"SUCCESS", "FAILURE", "REVOKED", "RETRY"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        if (strcmp(state.data, ends[i]) == 0) {
            return no(TH_INVALID, join(call, "state ", ends[i], " is what a task comes to", NULL));
        }
    }
    record(&call->recording->states, state, meta);
    return ok((text){NULL, 0});
}

answer host_send_event(th_call *call, text kind, text fields) {
    record(&call->recording->events, kind, fields);
    return ok((text){NULL, 0});
}

void host_log(th_level level, text message) {
    if (lines != NULL) {
        th_put_text(lines, message.data, message.length);
    } else {
        fprintf(stderr, "level %d: %.*s\n", (int)level, (int)message.length, message.data);
    }
}

void host_die(text message) {
    fprintf(stderr, "%.*s\n", (int)message.length, message.data);
    abort();
}

static text sent(th_call *call, text signature) {
    recording *recording = call->recording;
    th_put(&recording->sent, (th_json){signature.data, signature.length});
    return text_of(join(call, "test-", digits(call, ++recording->published), NULL));
}

answer host_send(th_call *call, text signature, bool now) {
    (void)now;
    return ok(sent(call, signature));
}

answer host_apply(th_call *call, text signature, bool now) {
    (void)now;
    return ok(text_of(join(call, "[[\"", sent(call, signature).data, "\", null], null]", NULL)));
}

answer host_add_to_chord(th_call *call, text signature) { return host_apply(call, signature, false); }

answer host_result(th_call *call, text id) {
    (void)call;
    (void)id;
    return no(TH_UNAVAILABLE, "results are kept by a host, and this is none");
}

answer host_wait(th_call *call, text id, uint64_t milliseconds) {
    (void)milliseconds;
    return host_result(call, id);
}

static answer lent(th_call *call, const char *map, const char *what, text name) {
    text value;
    if (map != NULL && decode(call, th_json_get(json_of(map), name.data), &value)) {
        return ok(value);
    }
    return no(TH_DENIED, join(call, what, " `", name.data, "` is lent by a host, and this is none", NULL));
}

answer host_secret(th_call *call, text name) { return lent(call, call->recording->said.secrets, "secret", name); }
answer host_config(th_call *call, text key) { return lent(call, call->recording->said.config, "config", key); }

/* ---- Buckets ---------------------------------------------------------------------------------------------------- */

typedef struct kept {
    struct kept *next;
    char *bucket, *key, *data;
    size_t length;
} kept;

static kept *all;

static char *duplicate(const char *data, size_t length) {
    char *copied = malloc(length + 1);
    if (copied == NULL) {
        panic("out of memory: %zu bytes", length);
    }
    if (length > 0) {
        memcpy(copied, data, length);
    }
    copied[length] = 0;
    return copied;
}

/* Where it is, or where it would be. */
static kept **place(const th_bucket *bucket, text key) {
    kept **at = &all;
    while (*at != NULL && (strcmp((*at)->bucket, bucket->name) != 0 || strcmp((*at)->key, key.data) != 0)) {
        at = &(*at)->next;
    }
    return at;
}

static void drop(kept **at) {
    kept *gone = *at;
    *at = gone->next;
    free(gone->bucket);
    free(gone->key);
    free(gone->data);
    free(gone);
}

void th_test_forget(void) {
    while (all != NULL) {
        drop(&all);
    }
}

static void nothing_to_close(uint32_t handle) { (void)handle; }

answer host_bucket_open(th_call *call, th_bucket *bucket) {
    (void)call;
    bucket->close = nothing_to_close;
    return ok((text){NULL, 0});
}

answer host_bucket_get(th_bucket *bucket, text key) {
    kept *found = *place(bucket, key);
    return ok(found == NULL ? (text){NULL, 0} : (text){found->data, found->length});
}

answer host_bucket_set(th_bucket *bucket, text key, text value) {
    kept **at = place(bucket, key);
    char *data = duplicate(value.data, value.length);
    if (*at == NULL) {
        *at = calloc(1, sizeof **at);
        if (*at == NULL) {
            panic("out of memory: %zu bytes", sizeof **at);
        }
        (*at)->bucket = duplicate(bucket->name, strlen(bucket->name));
        (*at)->key = duplicate(key.data, key.length);
    }
    free((*at)->data);
    (*at)->data = data;
    (*at)->length = value.length;
    return ok((text){NULL, 0});
}

answer host_bucket_delete(th_bucket *bucket, text key) {
    kept **at = place(bucket, key);
    if (*at != NULL) {
        drop(at);
    }
    return ok((text){NULL, 0});
}

answer host_bucket_exists(th_bucket *bucket, text key, bool *out) {
    *out = *place(bucket, key) != NULL;
    return ok((text){NULL, 0});
}

answer host_bucket_keys(th_bucket *bucket, void (*visit)(void *with, text key), void *with) {
    for (const kept *at = all; at != NULL; at = at->next) {
        if (strcmp(at->bucket, bucket->name) == 0) {
            visit(with, text_of(at->key));
        }
    }
    return ok((text){NULL, 0});
}

answer host_bucket_increment(th_bucket *bucket, text key, int64_t delta, int64_t *out) {
    kept *found = *place(bucket, key);
    char text_of_sum[24];
    *out = (found == NULL ? 0 : strtoll(found->data, NULL, 10)) + delta;
    snprintf(text_of_sum, sizeof text_of_sum, "%lld", (long long)*out);
    return host_bucket_set(bucket, key, text_of(text_of_sum));
}

answer host_bucket_update(th_bucket *bucket, text key, th_change change, void *with, bool *changed) {
    kept *found = *place(bucket, key);
    text value = found == NULL ? (text){NULL, 0} : (text){found->data, found->length};
    *changed = change(bucket->call, &value.data, &value.length, with);
    return *changed ? host_bucket_set(bucket, key, value) : ok((text){NULL, 0});
}

/* ---- The test's side -------------------------------------------------------------------------------------------- */

static const char *string(th_call *call, th_json json) {
    return json.text == NULL ? NULL : copy(call, json.text, json.length);
}

static const char *listed(th_call *call, th_writer *writer) {
    th_end(writer);
    return string(call, th_written(writer));
}

static th_writer list(th_call *call) {
    th_writer writer = th_write(call);
    th_begin_array(&writer);
    return writer;
}

/* A call and what it takes, in memory of its own. */
static th_call *new_call(void) {
    arena *memory = calloc(1, sizeof *memory);
    if (memory == NULL) {
        panic("out of memory: %zu bytes", sizeof *memory);
    }
    th_call *call = arena_take(memory, sizeof *call, 16);
    *call = (th_call){.arena = memory};
    return call;
}

th_tested *th_test_with(th_test_call said) {
    static const char *const states[] = {"", "SUCCESS", "FAILURE", "RETRY", "REJECTED", "IGNORED", "REPLACED"};
    check_tasks();
    th_call *call = new_call();
    recording *recording = th_alloc(call, sizeof *recording);
    *recording = (struct recording){.said = said, .sent = list(call), .states = list(call), .events = list(call)};
    call->id = text_of("test");
    call->task = text_of(said.task);
    call->args = json_of(said.args == NULL ? "[]" : said.args);
    call->kwargs = json_of(said.kwargs == NULL ? "{}" : said.kwargs);
    call->retries = said.retries;
    call->recording = recording;
    th_writer log = list(call), *outer = lines;
    lines = &log;
    run_call(call);
    lines = outer;

    th_tested *tested = th_alloc(call, sizeof *tested);
    *tested = (th_tested){.state = states[call->end], .countdown = -1, .memory = call->arena};
    const th_error *raised = call->end == END_FAILED ? call->raised : NULL;
    if (call->end == END_VALUE || call->end == END_REPLACE) {
        tested->result = string(call, call->value);
    } else if (call->end == END_RETRY) {
        raised = call->wish.cause;
        tested->countdown = call->wish.countdown;
        tested->retry_args = string(call, call->wish.args);
        tested->retry_kwargs = string(call, call->wish.kwargs);
    }
    if (raised != NULL) {
        tested->exc_type = raised->type;
        tested->exc_module = raised->module;
        tested->message = raised->message;
        tested->arguments = string(call, error_arguments(raised));
        tested->traceback = render_traceback(raised);
    }
    tested->published = listed(call, &recording->sent);
    tested->states = listed(call, &recording->states);
    tested->events = listed(call, &recording->events);
    tested->log = listed(call, &log);
    return tested;
}

th_tested *th_test(const char *task, const char *args, const char *kwargs) {
    th_test_call call = {.task = task, .args = args, .kwargs = kwargs};
    return th_test_with(call);
}

th_tested *th_test_describe(void) {
    check_tasks();
    th_call *call = new_call();
    th_writer writer = list(call);
    for (const th_entry *entry = first_task(); entry != NULL; entry = entry->next) {
        size_t count = 0;
        const option *options = describe_options(call, entry->task, &count);
        th_begin_object(&writer);
        th_key(&writer, "name");
        th_put_str(&writer, entry->task->name);
        th_key(&writer, "summary");
        th_put_str(&writer, entry->task->summary);
        th_key(&writer, "schema");
        th_put(&writer, json_of(describe_arguments(call, entry)));
        th_key(&writer, "options");
        th_begin_object(&writer);
        for (size_t i = 0; i < count; i++) {
            th_key_text(&writer, options[i].name.data, options[i].name.length);
            th_put(&writer, options[i].value);
        }
        th_end(&writer);
        th_end(&writer);
    }
    th_tested *tested = th_alloc(call, sizeof *tested);
    *tested = (th_tested){.state = "SUCCESS", .result = listed(call, &writer), .memory = call->arena};
    return tested;
}

void th_test_free(th_tested *tested) {
    if (tested != NULL) {
        arena *memory = tested->memory;
        arena_free(memory);
        free(memory);
    }
}
#endif
