/* Values that a plugin keeps from one task to the next, in buckets (`wasi:keyvalue`). */
#include "internal.h"

#include <string.h>

/* True if the host did it; otherwise there is an error now. */
static bool done(th_bucket *bucket, answer answer) {
    if (!answer.is_ok) {
        refused(bucket->call, "BucketError", answer);
    }
    return answer.is_ok;
}

th_bucket *th_bucket_open(th_call *call, const char *name) {
    th_bucket *bucket = th_alloc(call, sizeof *bucket);
    *bucket = (th_bucket){.call = call, .name = valid(call, name).data};
    if (!done(bucket, host_bucket_open(call, bucket))) {
        return NULL;
    }
    bucket->next = call->buckets;
    call->buckets = bucket;
    return bucket;
}

bool th_bucket_get(th_bucket *bucket, const char *key, const char **data, size_t *length) {
    answer answer = host_bucket_get(bucket, valid(bucket->call, key));
    if (!done(bucket, answer)) {
        return false;
    }
    bool is_there = answer.text.data != NULL;
    *data = is_there ? copy(bucket->call, answer.text.data, answer.text.length) : NULL;
    if (length != NULL) {
        *length = is_there ? answer.text.length : 0;
    }
    return true;
}

bool th_bucket_set(th_bucket *bucket, const char *key, const char *data, size_t length) {
    return done(bucket, host_bucket_set(bucket, valid(bucket->call, key), (text){data, length}));
}

bool th_bucket_delete(th_bucket *bucket, const char *key) {
    return done(bucket, host_bucket_delete(bucket, valid(bucket->call, key)));
}

bool th_bucket_exists(th_bucket *bucket, const char *key, bool *out) {
    return done(bucket, host_bucket_exists(bucket, valid(bucket->call, key), out));
}

/* Keys, as they come. */
typedef struct keys {
    th_call *call;
    const char **list;
    size_t count, room;
} keys;

static void collect(void *with, text key) {
    keys *keys = with;
    if (keys->count == keys->room) {
        size_t room = keys->room == 0 ? 16 : keys->room * 2;
        const char **list = arena_take(keys->call->arena, room * sizeof *list, sizeof(void *));
        if (keys->count > 0) {
            memcpy(list, keys->list, keys->count * sizeof *list);
        }
        keys->list = list;
        keys->room = room;
    }
    keys->list[keys->count++] = copy(keys->call, key.data, key.length);
}

bool th_bucket_keys(th_bucket *bucket, const char ***list, size_t *count) {
    keys keys = {.call = bucket->call};
    answer answer = host_bucket_keys(bucket, collect, &keys);
    *list = keys.list;
    *count = keys.count;
    return done(bucket, answer);
}

bool th_bucket_increment(th_bucket *bucket, const char *key, int64_t delta, int64_t *sum) {
    return done(bucket, host_bucket_increment(bucket, valid(bucket->call, key), delta, sum));
}

bool th_bucket_update(th_bucket *bucket, const char *key, th_change change, void *with, bool *changed) {
    bool told = false;
    bool is_done = done(bucket, host_bucket_update(bucket, valid(bucket->call, key), change, with, &told));
    if (changed != NULL) {
        *changed = told;
    }
    return is_done;
}
