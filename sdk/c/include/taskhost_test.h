/*
 * Calls tasks on the developer's machine, without a host: for unit tests, compiled by any C compiler.
 *
 *     th_tested *tested = th_test("tasks.add", "[1, 2]", "{}");
 *     assert(strcmp(tested->state, "SUCCESS") == 0 && strcmp(tested->result, "3") == 0);
 *     th_test_free(tested);
 *
 * What a task publishes, stores and says is recorded and goes nowhere; nothing waits, nothing is cancelled unless the test says so.
 */
#ifndef TASKHOST_TEST_H
#define TASKHOST_TEST_H

#include "taskhost.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What a test may say about a call. */
typedef struct th_test_call {
    const char *task;
    /** A JSON array; `[]` without. */
    const char *args TH_UNLESS_SET(nullptr);
    /** A JSON object; `{}` without. */
    const char *kwargs TH_UNLESS_SET(nullptr);
    uint32_t retries TH_UNLESS_SET(0);
    /** What `th_request` gives: a JSON object. */
    const char *request TH_UNLESS_SET(nullptr);
    /** What `th_config` and `th_secret` give: JSON objects of texts. */
    const char *config TH_UNLESS_SET(nullptr);
    const char *secrets TH_UNLESS_SET(nullptr);
    /** The task is told to come to an end once it has asked so many times; never with 0. */
    unsigned cancelled_after TH_UNLESS_SET(0);
} th_test_call;

/** What became of a call. */
typedef struct th_tested {
    /** SUCCESS, FAILURE, RETRY, REJECTED, IGNORED or REPLACED. */
    const char *state;
    /** JSON: what was returned; of REPLACED the signature. NULL of the others. */
    const char *result;
    /** Of FAILURE the exception, and of RETRY its cause; NULL without. */
    const char *exc_type, *exc_module, *message, *arguments, *traceback;
    /** Of RETRY, negative where the task has not said any. */
    double countdown;
    /** Of RETRY, JSON, NULL where the task has not said any. */
    const char *retry_args, *retry_kwargs;
    /** JSON arrays: of signatures, of `[state, meta]`, of `[kind, fields]`, of lines. */
    const char *published, *states, *events, *log;
    void *memory;
} th_tested;

th_tested *th_test(const char *task, const char *args, const char *kwargs);
th_tested *th_test_with(th_test_call call);
void th_test_free(th_tested *tested);
/** What the tasks say of themselves to the host: a JSON array of name, summary, schema and options. */
th_tested *th_test_describe(void);
/** Forgets what is in buckets, which is kept from one call to the next. */
void th_test_forget(void);

#ifdef __cplusplus
}
#endif

#endif
