/* The host's side of the interface, by the component model's canonical ABI: what it imports, and what is imported of it. */
#include "internal.h"

#ifdef __wasm__

#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(void *) == 4, "the canonical ABI is that of 32 bits");

#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))

#define CONTEXT "taskhost:task/context@0.1.0"
#define PUBLISH "taskhost:task/publish@0.1.0"
#define RESULTS "taskhost:task/results@0.1.0"
#define SECRETS "taskhost:task/secrets@0.1.0"
#define CONFIG "wasi:config/store@0.2.0-draft"
#define KEYVALUE "wasi:keyvalue/store@0.2.0-draft2"
#define ATOMICS "wasi:keyvalue/atomics@0.2.0-draft2"
#define LOGGING "wasi:logging/logging@0.1.0-draft"
#define CLOCK "wasi:clocks/monotonic-clock@0.2.0"
#define POLL "wasi:io/poll@0.2.0"

/* ---- Memory that the host asks for ------------------------------------------------------------------------------ */

/* The first piece is there from the beginning, so that most calls never ask for memory. */
static char first_piece[8192] __attribute__((aligned(16)));
static arena call_arena = {first_piece, first_piece + sizeof first_piece, NULL};

/* The host writes arguments and answers here: they live as long as the call. */
__attribute__((export_name("cabi_realloc"))) void *th_cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
    /* One more byte, since a text of ours has a zero behind it. */
    char *piece = arena_take(&call_arena, size + 1, align);
    if (old_size > 0) {
        memcpy(piece, old, old_size < size ? old_size : size);
    }
    piece[size] = 0;
    return piece;
}

/* What the adapter of WASI 0.1 keeps for itself lives as long as the instance. */
__attribute__((export_name("cabi_realloc_adapter"))) void *th_cabi_realloc_adapter(void *old, size_t old_size, size_t align,
                                                                                   size_t size) {
    (void)old_size;
    void *piece = old != NULL ? realloc(old, size) : align <= 16 ? malloc(size) : aligned_alloc(align, (size + align - 1) & ~(align - 1));
    if (piece == NULL) {
        __builtin_trap();
    }
    return piece;
}

/* ---- Answers ---------------------------------------------------------------------------------------------------- */

/* `result<string, variant of strings>` and its kin. */
typedef struct told {
    uint8_t is_error;
    union {
        text ok;
        bool flag;
        uint32_t handle;
        struct {
            uint8_t is_some;
            text value;
        } option;
        struct {
            uint8_t which;
            text why;
        } error;
        struct {
            uint8_t which;
            union {
                uint32_t cas;
                struct {
                    uint8_t which;
                    text why;
                } error;
            } is;
        } swapped;
        struct {
            const text *list;
            size_t count;
            uint8_t is_more;
            text cursor;
        } keys;
    } is;
} told;

_Static_assert(offsetof(told, is.error.why) == 8 && offsetof(told, is.option.value) == 8, "as the canonical ABI has it");
_Static_assert(offsetof(told, is.keys.cursor) == 16 && offsetof(told, is.swapped.is.error.why) == 12, "as the canonical ABI has it");

static const th_error_kind CONTEXT_KINDS[] = {TH_INVALID, TH_LIMITED, TH_UNAVAILABLE};
static const th_error_kind PUBLISH_KINDS[] = {TH_DENIED, TH_INVALID, TH_LIMITED, TH_UNAVAILABLE};
static const th_error_kind RESULT_KINDS[] = {TH_DENIED, TH_INVALID, TH_UNPUBLISHED, TH_TIMED_OUT, TH_CANCELLED, TH_UNAVAILABLE};

static answer failed(const told *told, const th_error_kind *kinds) {
    return (answer){false, kinds[told->is.error.which], told->is.error.why};
}

static answer nothing(const told *told, const th_error_kind *kinds) {
    return told->is_error ? failed(told, kinds) : (answer){.is_ok = true};
}

static answer given(const told *told, const th_error_kind *kinds) {
    return told->is_error ? failed(told, kinds) : (answer){.is_ok = true, .text = told->is.ok};
}

/* ---- The call --------------------------------------------------------------------------------------------------- */

IMPORT(CONTEXT, "request") void context_request(text *);
IMPORT(CONTEXT, "cancelled") bool context_cancelled(void);
IMPORT(CONTEXT, "remaining-ms") uint64_t context_remaining_ms(void);
IMPORT(CONTEXT, "update-state") void context_update_state(const char *, size_t, const char *, size_t, told *);
IMPORT(CONTEXT, "send-event") void context_send_event(const char *, size_t, const char *, size_t, told *);
IMPORT(LOGGING, "log") void logging_log(int, const char *, size_t, const char *, size_t);
IMPORT("wasi:cli/stderr@0.2.0", "get-stderr") uint32_t stderr_get(void);
IMPORT("wasi:io/streams@0.2.0", "[method]output-stream.blocking-write-and-flush")
void stream_write(uint32_t, const char *, size_t, void *);
IMPORT(CLOCK, "subscribe-duration") uint32_t clock_subscribe_duration(uint64_t);
IMPORT(POLL, "[method]pollable.block") void pollable_block(uint32_t);
IMPORT(POLL, "[resource-drop]pollable") void pollable_drop(uint32_t);

text host_request(th_call *call) {
    (void)call;
    text request;
    context_request(&request);
    return request;
}

bool host_cancelled(th_call *call) {
    (void)call;
    return context_cancelled();
}

uint64_t host_remaining_ms(th_call *call) {
    (void)call;
    return context_remaining_ms();
}

bool host_sleep(th_call *call, uint64_t nanoseconds) {
    (void)call;
    uint32_t pollable = clock_subscribe_duration(nanoseconds);
    pollable_block(pollable);
    pollable_drop(pollable);
    return true;
}

answer host_update_state(th_call *call, text state, text meta) {
    (void)call;
    told told;
    context_update_state(state.data, state.length, meta.data, meta.length, &told);
    return nothing(&told, CONTEXT_KINDS);
}

answer host_send_event(th_call *call, text kind, text fields) {
    (void)call;
    told told;
    context_send_event(kind.data, kind.length, fields.data, fields.length, &told);
    return nothing(&told, CONTEXT_KINDS);
}

void host_log(th_level level, text message) { logging_log((int)level, "", 0, message.data, message.length); }

/* Of stderr the host puts the last lines behind a trap, so that whoever sees that it ended sees why. */
void host_die(text message) {
    struct {
        uint8_t is_error;
        struct {
            uint8_t which;
            uint32_t error;
        } is;
    } written;
    uint32_t stream = stderr_get();
    stream_write(stream, message.data, message.length, &written);
    stream_write(stream, "\n", 1, &written);
    __builtin_trap();
}

/* ---- Other tasks ------------------------------------------------------------------------------------------------ */

IMPORT(PUBLISH, "send") void publish_send(const char *, size_t, told *);
IMPORT(PUBLISH, "immediately") void publish_immediately(const char *, size_t, told *);
IMPORT(PUBLISH, "apply")
void publish_apply(const char *, size_t, const char *, size_t, const char *, size_t, bool, told *);
IMPORT(PUBLISH, "add-to-chord") void publish_add_to_chord(const char *, size_t, bool, told *);
IMPORT(RESULTS, "get") void results_get(const char *, size_t, told *);
IMPORT(RESULTS, "wait") void results_wait(const char *, size_t, uint64_t, told *);

answer host_send(th_call *call, text signature, bool now) {
    (void)call;
    told told;
    if (now) {
        publish_immediately(signature.data, signature.length, &told);
    } else {
        publish_send(signature.data, signature.length, &told);
    }
    return given(&told, PUBLISH_KINDS);
}

answer host_apply(th_call *call, text signature, bool now) {
    (void)call;
    told told;
    publish_apply(signature.data, signature.length, "[]", 2, "{}", 2, now, &told);
    return given(&told, PUBLISH_KINDS);
}

answer host_add_to_chord(th_call *call, text signature) {
    (void)call;
    told told;
    publish_add_to_chord(signature.data, signature.length, false, &told);
    return given(&told, PUBLISH_KINDS);
}

answer host_result(th_call *call, text id) {
    (void)call;
    told told;
    results_get(id.data, id.length, &told);
    return given(&told, RESULT_KINDS);
}

answer host_wait(th_call *call, text id, uint64_t milliseconds) {
    (void)call;
    told told;
    results_wait(id.data, id.length, milliseconds, &told);
    return given(&told, RESULT_KINDS);
}

/* ---- What is lent ----------------------------------------------------------------------------------------------- */

IMPORT(SECRETS, "get") void secrets_get(const char *, size_t, told *);
IMPORT(CONFIG, "get") void config_get(const char *, size_t, told *);

answer host_secret(th_call *call, text name) {
    (void)call;
    static const th_error_kind kinds[] = {TH_DENIED};
    told told;
    secrets_get(name.data, name.length, &told);
    return given(&told, kinds);
}

answer host_config(th_call *call, text key) {
    (void)call;
    static const th_error_kind kinds[] = {TH_DENIED, TH_UNAVAILABLE};
    told told;
    config_get(key.data, key.length, &told);
    if (told.is_error) {
        return failed(&told, kinds);
    }
    return (answer){.is_ok = true, .text = told.is.option.is_some ? told.is.option.value : (text){NULL, 0}};
}

/* ---- Buckets ---------------------------------------------------------------------------------------------------- */

/* `result<s64, error>` is aligned as its number. */
typedef struct summed {
    uint8_t is_error;
    union {
        int64_t ok;
        struct {
            uint8_t which;
            text why;
        } error;
    } is;
} summed;

IMPORT(KEYVALUE, "open") void keyvalue_open(const char *, size_t, told *);
IMPORT(KEYVALUE, "[resource-drop]bucket") void bucket_drop(uint32_t);
IMPORT(KEYVALUE, "[method]bucket.get") void bucket_get(uint32_t, const char *, size_t, told *);
IMPORT(KEYVALUE, "[method]bucket.set") void bucket_set(uint32_t, const char *, size_t, const char *, size_t, told *);
IMPORT(KEYVALUE, "[method]bucket.delete") void bucket_delete(uint32_t, const char *, size_t, told *);
IMPORT(KEYVALUE, "[method]bucket.exists") void bucket_exists(uint32_t, const char *, size_t, told *);
IMPORT(KEYVALUE, "[method]bucket.list-keys") void bucket_list_keys(uint32_t, int, const char *, size_t, told *);
IMPORT(ATOMICS, "increment") void atomics_increment(uint32_t, const char *, size_t, int64_t, summed *);
IMPORT(ATOMICS, "[static]cas.new") void cas_new(uint32_t, const char *, size_t, told *);
IMPORT(ATOMICS, "[method]cas.current") void cas_current(uint32_t, told *);
IMPORT(ATOMICS, "[resource-drop]cas") void cas_drop(uint32_t);
IMPORT(ATOMICS, "swap") void atomics_swap(uint32_t, const char *, size_t, told *);

/* Of `variant error { no-such-store, access-denied, other(string) }`. */
static answer refused_by_bucket(uint8_t which, text why) {
    static const char *const texts[] = {"there is no such bucket", "the bucket is denied"};
    if (which < 2) {
        return (answer){false, TH_DENIED, text_of(texts[which])};
    }
    return (answer){false, TH_UNAVAILABLE, why};
}

static answer of_bucket(const told *told) {
    return told->is_error ? refused_by_bucket(told->is.error.which, told->is.error.why) : (answer){.is_ok = true};
}

static answer of_value(const told *told) {
    answer answer = of_bucket(told);
    if (answer.is_ok && told->is.option.is_some) {
        answer.text = told->is.option.value;
        if (answer.text.length == 0) {
            answer.text.data = "";
        }
    }
    return answer;
}

answer host_bucket_open(th_call *call, th_bucket *bucket) {
    (void)call;
    told told;
    keyvalue_open(bucket->name, strlen(bucket->name), &told);
    bucket->handle = told.is.handle;
    bucket->close = bucket_drop;
    return of_bucket(&told);
}

answer host_bucket_get(th_bucket *bucket, text key) {
    told told;
    bucket_get(bucket->handle, key.data, key.length, &told);
    return of_value(&told);
}

answer host_bucket_set(th_bucket *bucket, text key, text value) {
    told told;
    bucket_set(bucket->handle, key.data, key.length, value.data, value.length, &told);
    return of_bucket(&told);
}

answer host_bucket_delete(th_bucket *bucket, text key) {
    told told;
    bucket_delete(bucket->handle, key.data, key.length, &told);
    return of_bucket(&told);
}

answer host_bucket_exists(th_bucket *bucket, text key, bool *out) {
    told told;
    bucket_exists(bucket->handle, key.data, key.length, &told);
    *out = !told.is_error && told.is.flag;
    return of_bucket(&told);
}

answer host_bucket_keys(th_bucket *bucket, void (*visit)(void *with, text key), void *with) {
    text cursor = {NULL, 0};
    for (;;) {
        told told;
        bucket_list_keys(bucket->handle, cursor.data != NULL, cursor.data, cursor.length, &told);
        if (told.is_error) {
            return of_bucket(&told);
        }
        for (size_t i = 0; i < told.is.keys.count; i++) {
            visit(with, told.is.keys.list[i]);
        }
        if (!told.is.keys.is_more) {
            return (answer){.is_ok = true};
        }
        cursor = told.is.keys.cursor;
    }
}

answer host_bucket_increment(th_bucket *bucket, text key, int64_t delta, int64_t *out) {
    summed summed;
    atomics_increment(bucket->handle, key.data, key.length, delta, &summed);
    if (summed.is_error) {
        return refused_by_bucket(summed.is.error.which, summed.is.error.why);
    }
    *out = summed.is.ok;
    return (answer){.is_ok = true};
}

answer host_bucket_update(th_bucket *bucket, text key, th_change change, void *with, bool *changed) {
    told told;
    cas_new(bucket->handle, key.data, key.length, &told);
    if (told.is_error) {
        return of_bucket(&told);
    }
    for (uint32_t cas = told.is.handle;;) {
        cas_current(cas, &told);
        answer current = of_value(&told);
        text value = current.text;
        if (!current.is_ok || !change(bucket->call, &value.data, &value.length, with)) {
            cas_drop(cas);
            return current.is_ok ? (answer){.is_ok = true} : current;
        }
        atomics_swap(cas, value.data, value.length, &told);
        if (!told.is_error) {
            *changed = true;
            return (answer){.is_ok = true};
        }
        if (told.is.swapped.which == 0) {
            return refused_by_bucket(told.is.swapped.is.error.which, told.is.swapped.is.error.why);
        }
        cas = told.is.swapped.is.cas; /* somebody was faster */
    }
}

/* ---- What the host calls ---------------------------------------------------------------------------------------- */

typedef struct optional {
    uint8_t is_some;
    text value;
} optional;

typedef struct info {
    text name, summary;
    optional schema;
    struct {
        const option *list;
        size_t count;
    } options;
} info;

typedef struct error {
    text exc_type;
    optional exc_module;
    text arguments;
    optional traceback;
} error;

typedef struct returned {
    uint8_t is_failure;
    union {
        text ok;
        struct {
            uint8_t which;
            union {
                error error;
                struct {
                    uint8_t has_cause;
                    error cause;
                    struct {
                        uint8_t which;
                        union {
                            double countdown;
                            text eta;
                        } is;
                    } delay;
                    uint8_t has_max_retries;
                    uint32_t max_retries;
                    optional args, kwargs;
                } retry;
                uint8_t requeue;
                text signature;
            } is;
        } failure;
    } is;
} returned;

_Static_assert(sizeof(info) == 36 && sizeof(option) == 16 && sizeof(error) == 40 && sizeof(returned) == 112, "as the canonical ABI has it");
_Static_assert(offsetof(returned, is.failure.is) == 16 && offsetof(returned, is.failure.is.retry.delay) == 16 + 48 &&
                   offsetof(returned, is.failure.is.retry.kwargs) == 16 + 84,
               "as the canonical ABI has it");

static text json_as_text(th_json json) { return (text){json.text, json.length}; }

__attribute__((export_name("taskhost:task/tasks@0.1.0#describe"))) void *th_describe(void) {
    th_call call = {.arena = &call_arena};
    check_tasks();
    size_t count = 0;
    for (const th_entry *entry = first_task(); entry != NULL; entry = entry->next) {
        count++;
    }
    info *list = th_alloc(&call, count * sizeof *list), *at = list;
    for (const th_entry *entry = first_task(); entry != NULL; entry = entry->next, at++) {
        at->name = valid(&call, entry->task->name);
        at->summary = valid(&call, entry->task->summary);
        at->schema = (optional){true, text_of(describe_arguments(&call, entry))};
        at->options.list = describe_options(&call, entry->task, &at->options.count);
    }
    struct {
        const info *list;
        size_t count;
    } *described = th_alloc(&call, sizeof *described);
    described->list = list;
    described->count = count;
    return described;
}

static error exception(const th_error *raised) {
    th_call *call = raised->call;
    return (error){
        .exc_type = valid(call, raised->type),
        .exc_module = {true, valid(call, raised->module)},
        .arguments = json_as_text(error_arguments(raised)),
        .traceback = {true, valid(call, render_traceback(raised))},
    };
}

__attribute__((export_name("taskhost:task/tasks@0.1.0#run"))) void *
th_run(const char *id, size_t id_length, const char *task, size_t task_length, const char *args, size_t args_length,
       const char *kwargs, size_t kwargs_length, uint32_t retries) {
    /* In the arena, since tasks may ask it after they have returned: for the traceback. */
    th_call *call = arena_take(&call_arena, sizeof *call, 16);
    *call = (th_call){
        .arena = &call_arena,
        .id = {id, id_length},
        .task = {task, task_length},
        .args = {args, args_length},
        .kwargs = {kwargs, kwargs_length},
        .retries = retries,
    };
    run_call(call);
    returned *returned = th_alloc(call, sizeof *returned);
    memset(returned, 0, sizeof *returned);
    returned->is_failure = call->end != END_VALUE;
    switch (call->end) {
    case END_VALUE:
        returned->is.ok = json_as_text(call->value);
        break;
    case END_NONE:
    case END_FAILED:
        returned->is.failure.which = 0;
        returned->is.failure.is.error = exception(call->raised);
        break;
    case END_RETRY: {
        const th_retry_wish *wish = &call->wish;
        returned->is.failure.which = 1;
        returned->is.failure.is.retry.has_cause = wish->cause != NULL;
        if (wish->cause != NULL) {
            returned->is.failure.is.retry.cause = exception(wish->cause);
        }
        if (wish->eta != NULL) {
            returned->is.failure.is.retry.delay.which = 2;
            returned->is.failure.is.retry.delay.is.eta = valid(call, wish->eta);
        } else if (!(wish->countdown < 0)) {
            returned->is.failure.is.retry.delay.which = 1;
            returned->is.failure.is.retry.delay.is.countdown = wish->countdown;
        }
        returned->is.failure.is.retry.has_max_retries = wish->max_retries >= 0;
        returned->is.failure.is.retry.max_retries = wish->max_retries > UINT32_MAX ? UINT32_MAX : (uint32_t)wish->max_retries;
        returned->is.failure.is.retry.args = (optional){wish->args.text != NULL, json_as_text(wish->args)};
        returned->is.failure.is.retry.kwargs = (optional){wish->kwargs.text != NULL, json_as_text(wish->kwargs)};
        break;
    }
    case END_REJECT:
        returned->is.failure.which = 2;
        returned->is.failure.is.requeue = call->requeue;
        break;
    case END_IGNORE:
        returned->is.failure.which = 3;
        break;
    case END_REPLACE:
        returned->is.failure.which = 4;
        returned->is.failure.is.signature = json_as_text(call->value);
        break;
    }
    return returned;
}

/* Once the host has read what was returned: what another call of this instance finds is as new. */
static void forget(void) {
    arena_free(&call_arena);
    call_arena.at = first_piece;
    call_arena.end = first_piece + sizeof first_piece;
}

__attribute__((export_name("cabi_post_taskhost:task/tasks@0.1.0#describe"))) void th_described(void *described) {
    (void)described;
    forget();
}

__attribute__((export_name("cabi_post_taskhost:task/tasks@0.1.0#run"))) void th_ran(void *returned) {
    (void)returned;
    forget();
}
#endif
