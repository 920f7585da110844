/* What the files of the SDK know of each other, and plugins do not. */
#ifndef TASKHOST_INTERNAL_H
#define TASKHOST_INTERNAL_H

#include "taskhost.h"

#include <stdarg.h>

/* ---- memory.c: memory of one call, and the end of a plugin that is wrong ------------------------------------------ */

typedef struct chunk {
    struct chunk *next;
} chunk;

/** What is taken from it is given back all at once. */
typedef struct arena {
    char *at, *end;
    chunk *chunks;
} arena;

void *arena_take(arena *arena, size_t size, size_t align);
void arena_free(arena *arena);

/** A text with its length, which may hold zero bytes; one byte behind it is zero. */
typedef struct text {
    const char *data;
    size_t length;
} text;

text text_of(const char *string);
char *copy(th_call *call, const char *data, size_t length);
/** The texts up to a NULL, one behind the other. */
char *join(th_call *call, const char *first, ...);
char *format_list(th_call *call, const char *format, va_list list);
/** The same text if it is UTF-8, otherwise one that has U+FFFD where it is none: the host takes no other. */
text valid_utf8(th_call *call, text text);
text valid(th_call *call, const char *string);
/**
 * Ends the instance with a message in the log: for mistakes of the plugin, and for want of memory. The format has %s, %d and
 * %zu alone.
 */
_Noreturn void panic(const char *format, ...) TH_PRINTF(1, 2);

/* ---- calls and how they end ------------------------------------------------------------------------------------- */

typedef enum end { END_NONE, END_VALUE, END_FAILED, END_RETRY, END_REJECT, END_IGNORE, END_REPLACE } end;

#define FRAMES_MAX 32

typedef struct frame {
    const char *file;
    const char *function;
    int line;
} frame;

struct th_error {
    th_call *call;
    const char *type;
    const char *module;
    const char *message;
    th_json arguments;
    const char *traceback;
    th_error *cause;
    th_error_kind kind;
    /* Innermost first. */
    frame frames[FRAMES_MAX];
    unsigned frame_count;
};

/** A parameter and what it is bound to. */
typedef struct param {
    const char *name;
    size_t name_length;
    /** A bit for each `th_kind` it takes; floats take integers as well. */
    unsigned types;
    bool required;
    bool by_name_only;
    bool is_str;
    th_json missing; /* the default */
    th_json value;
    const char *decoded;
} param;

/** What `.params` says. */
typedef struct params {
    param *list;
    size_t count;
    size_t positional;
    bool takes_rest, takes_keywords;
} params;

struct th_call {
    arena *arena;
    text id, task;
    th_json args, kwargs;
    uint32_t retries;
    const th_entry *entry;
    params params;
    th_json rest, keywords;
    th_json request;
    th_error *last_error;
    /** Those that are open, to be closed when the task has ended. */
    th_bucket *buckets;
    /** For a test on the developer's machine: what the call has done. */
    struct recording *recording;

    end end;
    th_json value; /* the result, or what takes its place */
    th_error *raised;
    bool requeue;
    th_retry_wish wish;
};

/** Runs the task that the call names; how it ended is in the call. */
void run_call(th_call *call);
th_error *make_error(th_call *call, const char *type, th_error_kind kind, const char *message);
void add_frame(th_error *error, const char *file, int line, const char *function);
const char *render_traceback(const th_error *error);
th_json error_arguments(const th_error *error);

/* ---- params.c, bind.c ------------------------------------------------------------------------------------------- */

/** What `.params` of a task says; ends the plugin where that cannot be read. */
params read_params(th_call *call, const th_entry *entry);
/** Binds the arguments of the call, or ends it with a TypeError. False then. */
bool bind(th_call *call);

/* ---- tasks.c ---------------------------------------------------------------------------------------------------- */

const th_entry *first_task(void);
const th_entry *find_task(text name);
/** Ends the plugin if it has no tasks, or two of the same name. */
void check_tasks(void);
const char *describe_arguments(th_call *call, const th_entry *entry);

/** An option with its value as JSON. */
typedef struct option {
    text name;
    th_json value;
} option;

option *describe_options(th_call *call, const th_task *task, size_t *count);

/* ---- json_read.c, json_write.c ---------------------------------------------------------------------------------- */

#define NO_JSON ((th_json){NULL, 0})

th_json json_of(const char *text);
/** Why a text is no JSON, NULL if it is; and where. */
const char *json_fault(const char *text, size_t length, size_t *at);
/** A JSON string, by its quotes, as UTF-8. False if it is none. */
bool decode(th_call *call, th_json string, text *out);
bool key_is(th_json key, const char *name);
th_json jsonf_list(th_call *call, const char *format, va_list list);
th_json json_text(th_call *call, const char *data, size_t length);
size_t write_int(uint64_t value, bool is_negative, char out[24]);
/** The digits of a number, as a text. */
const char *digits(th_call *call, uint64_t value);
/** The float that is next to a number of JSON. */
double read_double(const char *text, size_t length);
/** The shortest digits of a float above zero; `0.digits * 10 ** power`. */
size_t shortest(double value, char out[20], int *power);
/** The digits of a float as Python writes them. */
size_t write_double(double value, char out[32]);

/* ---- host.c or test.c: what only a host can do ------------------------------------------------------------------ */

/** What the host answered, or why it did not. */
typedef struct answer {
    bool is_ok;
    th_error_kind kind;
    text text; /* what it gave, or what it said */
} answer;

text host_request(th_call *call);
bool host_cancelled(th_call *call);
uint64_t host_remaining_ms(th_call *call);
bool host_sleep(th_call *call, uint64_t nanoseconds);
answer host_update_state(th_call *call, text state, text meta);
answer host_send_event(th_call *call, text kind, text fields);
void host_log(th_level level, text message);
/** Says on stderr why, and ends. */
_Noreturn void host_die(text message);
answer host_send(th_call *call, text signature, bool now);
answer host_apply(th_call *call, text signature, bool now);
answer host_add_to_chord(th_call *call, text signature);
answer host_result(th_call *call, text id);
answer host_wait(th_call *call, text id, uint64_t milliseconds);
answer host_secret(th_call *call, text name);
/** Ok without data is a key that has no value. */
answer host_config(th_call *call, text key);

struct th_bucket {
    th_call *call;
    const char *name;
    uint32_t handle;
    /** A task that opens none need not import what closes one. */
    void (*close)(uint32_t handle);
    th_bucket *next;
};

answer host_bucket_open(th_call *call, th_bucket *bucket);
answer host_bucket_get(th_bucket *bucket, text key);
answer host_bucket_set(th_bucket *bucket, text key, text value);
answer host_bucket_delete(th_bucket *bucket, text key);
answer host_bucket_exists(th_bucket *bucket, text key, bool *out);
/** Calls `visit` with each key. */
answer host_bucket_keys(th_bucket *bucket, void (*visit)(void *with, text key), void *with);
answer host_bucket_increment(th_bucket *bucket, text key, int64_t delta, int64_t *out);
answer host_bucket_update(th_bucket *bucket, text key, th_change change, void *with, bool *changed);

/** Makes an error of what the host said. */
th_error *refused(th_call *call, const char *type, answer answer);

#endif
