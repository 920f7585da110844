/*
 * Write Taskhost tasks in C: functions that any Celery client calls by name.
 *
 *     TASKHOST_TASK(add, "tasks.add", .summary = "Adds two numbers.", .params = "x: int, y: int = 1") {
 *         return th_int(call, th_arg_int(call, "x") + th_arg_int(call, "y"));
 *     }
 *
 * Whatever a function here returns belongs to the call, and is gone when the task has ended: there is nothing to free,
 * and nothing may be kept for the next call. Texts are UTF-8 and end with a zero byte, but for the text of a `th_json`,
 * which is a piece of a longer one and has a length instead.
 */
#ifndef TASKHOST_H
#define TASKHOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) || defined(__clang__)
#define TH_PRINTF(at, first) __attribute__((format(printf, at, first)))
#define TH_MUST_USE __attribute__((warn_unused_result))
#else
#define TH_PRINTF(at, first)
#define TH_MUST_USE
#endif

/* ---- What everything else is about ---------------------------------------------------------------------------- */

/** The call that a task serves. */
typedef struct th_call th_call;

/** How a task ends. Only the functions below that return one make it, and a task returns it at once. */
typedef struct th_result {
    int ended;
} th_result;

/** A JSON value, as text that stays what it is: numbers of any size, `NaN`, lone surrogates. Without text, none. */
typedef struct th_json {
    const char *text;
    size_t length;
} th_json;

/** An exception that was made, and perhaps is raised later. */
typedef struct th_error th_error;

/** A call of another task, or a canvas of several. It never changes: whoever changes one gets a new one. */
typedef const struct th_signature *th_sig;

/* ---- Tasks ------------------------------------------------------------------------------------------------------ */

#ifdef __cplusplus
#define TH_UNLESS_SET(value) = value
#else
#define TH_UNLESS_SET(value)
#endif

/** For `max_retries` and the like: Celery's None. */
#define TH_NONE (-2)

/** What is said of a task in `TASKHOST_TASK`, in this order (which only C++ insists on). */
typedef struct th_task {
    /** The name that clients use. */
    const char *name;
    /** One line for people. */
    const char *summary TH_UNLESS_SET(nullptr);
    /**
     * The parameters as Python writes them: `"url: str, size: int = 800, *rest, **options"`. Types are int (64 bits), float,
     * str (without zero characters), bool, list, dict, None and any, several with `|` between them; a parameter without a
     * type takes anything. Defaults are JSON, or text in single quotes. A call that does not fit is a TypeError.
     */
    const char *params TH_UNLESS_SET(nullptr);

    /* Options by Celery's names. */
    double max_retries TH_UNLESS_SET(-1);
    /** In seconds. */
    double default_retry_delay TH_UNLESS_SET(-1);
    /** Names of exceptions with commas between them: `"ConnectionError, TimeoutError"`. */
    const char *autoretry_for TH_UNLESS_SET(nullptr);
    const char *dont_autoretry_for TH_UNLESS_SET(nullptr);
    /** The first delay in seconds, or true for one. */
    double retry_backoff TH_UNLESS_SET(-1);
    double retry_backoff_max TH_UNLESS_SET(-1);
    int retry_jitter TH_UNLESS_SET(-1);
    double time_limit TH_UNLESS_SET(-1);
    double soft_time_limit TH_UNLESS_SET(-1);
    /** The task looks at `th_cancelled` and ends by itself. */
    int handles_soft_limit TH_UNLESS_SET(-1);
    /** Such as `"10/m"`. */
    const char *rate_limit TH_UNLESS_SET(nullptr);
    const char *queue TH_UNLESS_SET(nullptr);
    double priority TH_UNLESS_SET(-1);
    double expires TH_UNLESS_SET(-1);
    int acks_late TH_UNLESS_SET(-1);
    int ignore_result TH_UNLESS_SET(-1);
    int track_started TH_UNLESS_SET(-1);
    /** All others, as a JSON object: `"{'compression': 'gzip', 'throws': ['KeyError']}"`. */
    const char *options TH_UNLESS_SET(nullptr);
} th_task;

/** A task that is known; `TASKHOST_TASK` makes them. */
typedef struct th_entry {
    const th_task *task;
    th_result (*run)(th_call *call);
    const char *function;
    const char *file;
    int line;
    struct th_entry *next;
} th_entry;

void th_register(th_entry *entry);

#ifdef __cplusplus
#define TH_TASK_UNSET
#define TH_QUIETLY(...) __VA_ARGS__
#else
#define TH_TASK_UNSET                                                                                                  \
    .max_retries = -1, .default_retry_delay = -1, .retry_backoff = -1, .retry_backoff_max = -1, .retry_jitter = -1,    \
    .time_limit = -1, .soft_time_limit = -1, .handles_soft_limit = -1, .priority = -1, .expires = -1, .acks_late = -1, \
    .ignore_result = -1, .track_started = -1,
/* An option that is said twice, once by us, is what this is made of. */
#define TH_QUIETLY(...)                                                                                                \
    _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Woverride-init\"") __VA_ARGS__                   \
        _Pragma("GCC diagnostic pop")
#endif

/**
 * Declares a task: the name of the C function, the name that clients use, what else is to be said, and then its body in
 * braces, in which the call is `call`. At file scope, in any file of the plugin.
 */
#define TASKHOST_TASK(function, ...)                                                                                   \
    static th_result function(th_call *call);                                                                          \
    TH_QUIETLY(static const th_task th_task_of_##function = {TH_TASK_UNSET.name = __VA_ARGS__};)                       \
    __attribute__((constructor)) static void th_register_##function(void) {                                           \
        static th_entry entry = {&th_task_of_##function, function, #function, __FILE__, __LINE__, NULL};               \
        th_register(&entry);                                                                                           \
    }                                                                                                                  \
    static th_result function(__attribute__((unused)) th_call *call)

/* ---- Arguments -------------------------------------------------------------------------------------------------- */

/*
 * By the names in `.params`, whose types are checked before the task is called: so these cannot fail. To ask for a name
 * that is not there, or for a type that the parameter may not have, is a mistake in the plugin and ends it with a message.
 */

/** The argument as it was sent, or the default. */
th_json th_arg(th_call *call, const char *name);
/** Of an `int`; 0 of None. */
int64_t th_arg_int(th_call *call, const char *name);
/** Of a `float` or `int | float`; 0 of None. */
double th_arg_double(th_call *call, const char *name);
/** Of a `bool`; false of None. */
bool th_arg_bool(th_call *call, const char *name);
/** Of a `str`; NULL of None. */
const char *th_arg_str(th_call *call, const char *name);
/** True if the argument is None. */
bool th_arg_is_none(th_call *call, const char *name);
/** What `*name` has taken: a JSON array. */
th_json th_rest(th_call *call);
/** What `**name` has taken: a JSON object. */
th_json th_keywords(th_call *call);

/* ---- Reading JSON ----------------------------------------------------------------------------------------------- */

typedef enum th_kind {
    TH_MISSING, /**< There is no value, or it is no JSON. */
    TH_NULL,
    TH_BOOL,
    TH_INT,   /**< A number without point and exponent, of any size. */
    TH_FLOAT, /**< Any other number, NaN and the infinities. */
    TH_STRING,
    TH_ARRAY,
    TH_OBJECT
} th_kind;

th_kind th_json_kind(th_json json);
/** False if it is no integer, or one that does not fit. */
TH_MUST_USE bool th_json_int(th_json json, int64_t *out);
/** False if it is no number. An integer of more than 53 bits is rounded, one that is too large is infinite. */
TH_MUST_USE bool th_json_double(th_json json, double *out);
/** False if it is neither true nor false. */
TH_MUST_USE bool th_json_bool(th_json json, bool *out);
/**
 * NULL if it is no string. A lone surrogate becomes the three bytes that UTF-8 would have for it, and when those are
 * written as JSON they become the escape again.
 */
const char *th_json_str(th_call *call, th_json json, size_t *length);
/** The member of an object; of two with that name the last. */
th_json th_json_get(th_json object, const char *name);
/** The element of an array. */
th_json th_json_at(th_json array, size_t index);
/** How many elements or members there are; 0 if it is neither array nor object. */
size_t th_json_count(th_json json);

/** A walk over an array or object: `for (th_items it = th_json_items(json); th_next(&it);) { .. it.value .. }` */
typedef struct th_items {
    /** Of an object, the name of the member: a JSON string. */
    th_json key;
    th_json value;
    const char *at, *end;
    char close;
} th_items;

th_items th_json_items(th_json json);
bool th_next(th_items *items);

/**
 * Checks a text that did not come from the host. False, and an error of the type JSONDecodeError, if it is no JSON as Python
 * reads it, or nested deeper than 1000 levels. What the host gives needs no check, and no function here trusts it.
 */
TH_MUST_USE bool th_json_parse(th_call *call, const char *text, size_t length, th_json *out);

/* ---- Writing JSON ----------------------------------------------------------------------------------------------- */

/**
 * JSON by a format: `th_jsonf(call, "{'name': %s, 'sizes': [%d, %d]}", name, width, height)`. Text in single quotes is a string
 * like one in double quotes. The conversions are printf's %d %i %u with all their lengths, %f %e %g (a float, in as many
 * digits as it needs, as Python writes it), %s (a string with its quotes, NULL is null; within quotes a part of that string),
 * %.*s (so many bytes), %p (a pointer to a `th_json`), %%. A text that is no UTF-8 gets U+FFFD where it is none.
 */
th_json th_jsonf(th_call *call, const char *format, ...) TH_PRINTF(2, 3);

/** Writes JSON of any length, with the commas in their places. */
typedef struct th_writer {
    th_call *call;
    char *text;
    size_t length, room;
    const char *broken;
    unsigned depth;
    bool is_first, has_key;
    unsigned char is_object[128];
} th_writer;

th_writer th_write(th_call *call);
void th_begin_array(th_writer *writer);
void th_begin_object(th_writer *writer);
/** Ends the array or object that was begun last. */
void th_end(th_writer *writer);
/** The name of the member that is written next. */
void th_key(th_writer *writer, const char *name);
void th_put(th_writer *writer, th_json value);
void th_put_null(th_writer *writer);
void th_put_bool(th_writer *writer, bool value);
void th_put_int(th_writer *writer, int64_t value);
void th_put_uint(th_writer *writer, uint64_t value);
void th_put_double(th_writer *writer, double value);
void th_put_str(th_writer *writer, const char *text);
/** A string that may hold zero bytes. */
void th_put_text(th_writer *writer, const char *text, size_t length);
/** As `th_key`, of a name that may hold zero bytes. */
void th_key_text(th_writer *writer, const char *text, size_t length);
/** What was written. If that is no JSON value, since something was left open say, it has no text. */
th_json th_written(th_writer *writer);

/* ---- Results ---------------------------------------------------------------------------------------------------- */

th_result th_null(th_call *call);
th_result th_bool(th_call *call, bool value);
th_result th_int(th_call *call, int64_t value);
th_result th_uint(th_call *call, uint64_t value);
th_result th_double(th_call *call, double value);
th_result th_str(th_call *call, const char *text);
th_result th_text(th_call *call, const char *text, size_t length);
/** A JSON value as it is. One without text is a TypeError. */
th_result th_return(th_call *call, th_json value);
/** `th_return` of `th_jsonf`. */
th_result th_returnf(th_call *call, const char *format, ...) TH_PRINTF(2, 3);

/* ---- Errors ----------------------------------------------------------------------------------------------------- */

/** What kind of error a function here came to. */
typedef enum th_error_kind {
    TH_OTHER,       /**< One that the plugin made itself. */
    TH_DENIED,      /**< The plugin was not granted it; the message names what is missing. */
    TH_INVALID,     /**< It can never be done. */
    TH_LIMITED,     /**< It is more than the operator allows; the message names the limit. */
    TH_UNAVAILABLE, /**< A server is away, or did not answer in time. */
    TH_TIMED_OUT,   /**< The other task was not done in time. */
    TH_CANCELLED,   /**< This task is to come to an end. */
    TH_UNPUBLISHED  /**< The other task is published when this one has succeeded, so it cannot be waited for. */
} th_error_kind;

/** Fails with an exception: `return TH_FAIL(call, "ValueError", "no page %d", page);`. Without a message give NULL. */
#define TH_FAIL(call, ...) th_raise_at(call, TH_ERROR(call, __VA_ARGS__), __FILE__, __LINE__, __func__)
/** Makes an exception, and does not raise it. Traceback and `th_last_error` know it from here on. */
#define TH_ERROR(call, ...) th_error_at(call, __FILE__, __LINE__, __func__, __VA_ARGS__)
/** Fails with an exception that was made before; this line is in its traceback as well. */
#define TH_RAISE(call, error) th_raise_at(call, error, __FILE__, __LINE__, __func__)
/** Fails with the last error: `const char *id = th_publish(call, sig); if (!id) return TH_FAILED(call);`. */
#define TH_FAILED(call) th_raise_at(call, th_last_error(call), __FILE__, __LINE__, __func__)

/**
 * Its class is known to Python as `builtins.<type>`, unless it is told otherwise. A client makes a class of that name
 * if there is none.
 */
th_error *th_error_at(th_call *call, const char *file, int line, const char *function, const char *type,
                      const char *format, ...) TH_PRINTF(6, 7);
th_result th_raise_at(th_call *call, th_error *error, const char *file, int line, const char *function);

/** The module of the class: `builtins`, `celery.exceptions` or one that `plugin.toml` names under `exception_modules`. */
th_error *th_error_module(th_error *error, const char *module);
/** Its arguments instead of the message alone: a JSON array, or one value. */
th_error *th_error_arguments(th_error *error, th_json arguments);
/** The exception that caused it, which the traceback shows first. */
th_error *th_error_cause(th_error *error, th_error *cause);
/** A traceback instead of the one that is made up. */
th_error *th_error_traceback(th_error *error, const char *text);

/** The error that was made last in this call, by a function here that failed or by the task; NULL if there is none. */
th_error *th_last_error(th_call *call);
const char *th_error_type(const th_error *error);
const char *th_error_message(const th_error *error);
th_error_kind th_error_kind_of(const th_error *error);

/* ---- Other ends ------------------------------------------------------------------------------------------------- */

/** The wish to be run again. */
typedef struct th_retry_wish {
    th_call *call;
    /** After so many seconds, instead of the task's `default_retry_delay`. */
    double countdown TH_UNLESS_SET(-1);
    /** At an ISO 8601 time. */
    const char *eta TH_UNLESS_SET(nullptr);
    /** How many retries the task may have, instead of its own limit. */
    int64_t max_retries TH_UNLESS_SET(-1);
    /** Other positional arguments: a JSON array. */
    th_json args TH_UNLESS_SET({});
    /** Other keyword arguments: a JSON object. */
    th_json kwargs TH_UNLESS_SET({});
    /** Why: it is stored with the state RETRY, and is the failure once no retry is left. */
    th_error *cause TH_UNLESS_SET(nullptr);
} th_retry_wish;

th_result th_retry(const th_retry_wish *wish);

/** `return TH_RETRY(call, .countdown = 5, .cause = TH_ERROR(call, "ConnectionError", "no answer"));` */
#ifdef __cplusplus
#define TH_RETRY(...) th_retry_with(th_retry_wish{.call = __VA_ARGS__})
#else
#define TH_RETRY(...)                                                                                                  \
    __extension__({                                                                                                    \
        TH_QUIETLY(th_retry_wish th_wish_ = {.countdown = -1, .max_retries = -1, .call = __VA_ARGS__};)                \
        th_retry(&th_wish_);                                                                                           \
    })
#endif

/** Gives the message back to the broker, to be delivered again or not. */
th_result th_reject(th_call *call, bool requeue);
/** Ends the task with nothing stored or announced. */
th_result th_ignore(th_call *call);
/** Puts another task, or a canvas, in this one's place, under its id. Declared under `publish` in `[needs]`. */
th_result th_replace(th_call *call, th_sig signature);

/* ---- The call --------------------------------------------------------------------------------------------------- */

const char *th_id(th_call *call);
const char *th_task_name(th_call *call);
/** How often the task was retried before. */
uint32_t th_retries(th_call *call);
/** All facts about this execution by Celery's names (`root_id`, `group`, `eta`, `headers`, ..); asked for once. */
th_json th_request(th_call *call);
/**
 * True once the task should come to an end: its soft time limit has passed, it was revoked, or the worker is stopping at once.
 * Only a task with `.handles_soft_limit = true` gets to see it.
 */
bool th_cancelled(th_call *call);
/** Seconds until the hard time limit. */
double th_remaining(th_call *call);
/** Waits. False once the task should come to an end, see `th_cancelled`. */
bool th_sleep(th_call *call, double seconds);
/** Gives the task a state that clients see until the next one: Celery's `update_state`. */
bool th_update_state(th_call *call, const char *state, th_json meta);
/** The state PROGRESS with `current` and `total`. Whether it could be stored is what `th_update_state` tells. */
void th_progress(th_call *call, uint64_t current, uint64_t total);
/** Tells monitors something about this task: Celery's `send_event`. The fields are a JSON object. */
bool th_send_event(th_call *call, const char *kind, th_json fields);

typedef enum th_level { TH_LOG_TRACE, TH_LOG_DEBUG, TH_LOG_INFO, TH_LOG_WARN, TH_LOG_ERROR, TH_LOG_CRITICAL } th_level;

/** A line of the task's log. What a task prints goes there as well. */
void th_log(th_level level, const char *format, ...) TH_PRINTF(2, 3);

/* ---- Calls of other tasks --------------------------------------------------------------------------------------- */

/** A call of a task, without arguments. */
th_sig th_signature(th_call *call, const char *task);
th_sig th_args(th_sig signature, th_json array);
/** `th_argsf(sig, "[%d, %s]", 1, "x")`, see `th_jsonf`. */
th_sig th_argsf(th_sig signature, const char *format, ...) TH_PRINTF(2, 3);
th_sig th_kwargs(th_sig signature, th_json object);
th_sig th_kwargsf(th_sig signature, const char *format, ...) TH_PRINTF(2, 3);
/** An option by Celery's name, as `apply_async` takes it: `queue`, `priority`, `expires`, `task_id`, .. */
th_sig th_option(th_sig signature, const char *name, th_json value);
th_sig th_optionf(th_sig signature, const char *name, const char *format, ...) TH_PRINTF(3, 4);
/** To be run not before so many seconds have passed. */
th_sig th_countdown(th_sig signature, double seconds);
/** What it is called with is no argument of it: Celery's `si`. */
th_sig th_immutable(th_sig signature);
/** Positional arguments before those that it has. */
th_sig th_partial(th_sig signature, th_json array);
th_sig th_partialf(th_sig signature, const char *format, ...) TH_PRINTF(2, 3);
/** Another to be called with the result of this one. */
th_sig th_link(th_sig signature, th_sig callback);
/** Another to be called with the id of this one if it fails. */
th_sig th_link_error(th_sig signature, th_sig errback);
/** Marks every task in it with a value under a name, by which clients can revoke them. */
th_sig th_stamp(th_sig signature, const char *name, th_json value);

/** One after the other, each called with the result of the one before: Celery's `first | second`. */
th_sig th_then(th_sig first, th_sig second);
th_sig th_chain_of(th_call *call, const th_sig *tasks, size_t count);
th_sig th_group_of(th_call *call, const th_sig *tasks, size_t count);
/** Tasks beside each other, and one that is called with the list of all of their results. */
th_sig th_chord_of(th_call *call, const th_sig *header, size_t count, th_sig body);
/** Calls of one task, each with its list of arguments, so many of them to a message. */
th_sig th_chunks(th_sig task, th_json lists, size_t size);
/** Calls of one task in one message, each with one argument. */
th_sig th_xmap(th_sig task, th_json arguments);
/** Calls of one task in one message, each with its list of arguments. */
th_sig th_xstarmap(th_sig task, th_json lists);

/* `th_chain(call, a, b, c)`, `th_group(call, a, b)` and `th_chord(call, body, a, b)`. */
#ifndef __cplusplus
#define TH_SIGS(...) (const th_sig[]){__VA_ARGS__}, sizeof((const th_sig[]){__VA_ARGS__}) / sizeof(th_sig)
#define th_chain(call, ...) th_chain_of(call, TH_SIGS(__VA_ARGS__))
#define th_group(call, ...) th_group_of(call, TH_SIGS(__VA_ARGS__))
#define th_chord(call, body, ...) th_chord_of(call, TH_SIGS(__VA_ARGS__), body)
#endif

/** Celery's map of it; without text, and with an error, if it can never be published. */
th_json th_sig_json(th_sig signature);
/** Reads Celery's map. NULL, and an error of the type TypeError, if it is none. */
th_sig th_sig_read(th_call *call, th_json map);

/** Publishes once this task has succeeded or is replaced. Gives the id; NULL, and a PublishError, if it cannot be. */
const char *th_publish(th_call *call, th_sig signature);
/** Publishes now, whatever this task comes to, and returns when the broker has it. */
const char *th_publish_now(th_call *call, th_sig signature);
/**
 * As `th_publish`, and tells where all of the results will be, as Celery writes it: `[[id, parent], children]`. The task may
 * return that. Without text, and a PublishError, if it cannot be published.
 */
th_json th_apply(th_call *call, th_sig signature);
th_json th_apply_now(th_call *call, th_sig signature);
/** Adds to the header of the chord that this task is in: its body then waits for the other too. */
th_json th_add_to_chord(th_call *call, th_sig signature);

/** What is known about a task. */
typedef struct th_outcome {
    /** Celery's name of it; PENDING, if nothing is known. */
    const char *state;
    /** What it returned; of a failure Celery's map of the exception. */
    th_json result;
    /** NULL if there is none. */
    const char *traceback;
    /** Everything, as the host told it. */
    th_json meta;
} th_outcome;

/** False, and a ResultError, if it cannot be seen. Declared under `results` in `[needs]`. */
TH_MUST_USE bool th_outcome_of(th_call *call, const char *id, th_outcome *out);
/** The same once the task is done. This task keeps its slot meanwhile. */
TH_MUST_USE bool th_wait(th_call *call, const char *id, double seconds, th_outcome *out);
/**
 * Waits for all members of what `th_apply_now` gave, in order; of a task, for that. Gives the array of them and their number.
 * The time is for all of them together.
 */
TH_MUST_USE bool th_join(th_call *call, th_json applied, double seconds, th_outcome **out, size_t *count);

/* ---- What the operator lends ------------------------------------------------------------------------------------ */

/** The value of a setting; NULL, and an error, if it was not lent. Declared under `config` in `[needs]`. */
const char *th_config(th_call *call, const char *key);
/** A secret, which never shows in the log; NULL, and an error, if it was not lent. Declared under `secrets` in `[needs]`. */
const char *th_secret(th_call *call, const char *name);

/** Values that the plugin keeps from one task to the next. */
typedef struct th_bucket th_bucket;

/** The bucket of that name; NULL, and a BucketError, if there is none. Declared under `keyvalue` in `[needs]`. */
th_bucket *th_bucket_open(th_call *call, const char *name);
/** The value under a key, and true; a value without data if there is none. */
TH_MUST_USE bool th_bucket_get(th_bucket *bucket, const char *key, const char **data, size_t *length);
TH_MUST_USE bool th_bucket_set(th_bucket *bucket, const char *key, const char *data, size_t length);
TH_MUST_USE bool th_bucket_delete(th_bucket *bucket, const char *key);
TH_MUST_USE bool th_bucket_exists(th_bucket *bucket, const char *key, bool *out);
/** All keys, in no order. */
TH_MUST_USE bool th_bucket_keys(th_bucket *bucket, const char ***keys, size_t *count);
/** Adds to the number under a key, which is zero if there is none, and gives the sum. In one step. */
TH_MUST_USE bool th_bucket_increment(th_bucket *bucket, const char *key, int64_t delta, int64_t *sum);

/** What `th_bucket_update` asks: what is there (no data if nothing is), to be replaced by what is to be there. */
typedef bool (*th_change)(th_call *call, const char **data, size_t *length, void *with);
/** Puts what `change` makes of a value in its place. If somebody else was faster it is asked again; with false it gives up. */
TH_MUST_USE bool th_bucket_update(th_bucket *bucket, const char *key, th_change change, void *with, bool *changed);

/* ---- Memory ----------------------------------------------------------------------------------------------------- */

/** Memory that is freed when the task has ended. Never NULL: without memory the task ends. */
void *th_alloc(th_call *call, size_t size);
/** Text by printf's format, freed when the task has ended. */
char *th_format(th_call *call, const char *format, ...) TH_PRINTF(2, 3);

#ifdef __cplusplus
}

inline th_result th_retry_with(const th_retry_wish &wish) { return th_retry(&wish); }

template <class... Sigs> th_sig th_chain(th_call *call, Sigs... tasks) {
    const th_sig list[] = {tasks...};
    return th_chain_of(call, list, sizeof...(tasks));
}

template <class... Sigs> th_sig th_group(th_call *call, Sigs... tasks) {
    const th_sig list[] = {tasks...};
    return th_group_of(call, list, sizeof...(tasks));
}

template <class... Sigs> th_sig th_chord(th_call *call, th_sig body, Sigs... header) {
    const th_sig list[] = {header...};
    return th_chord_of(call, list, sizeof...(header), body);
}
#endif

#endif
