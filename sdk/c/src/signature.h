/* What a signature is made of. */
#ifndef TASKHOST_SIGNATURE_H
#define TASKHOST_SIGNATURE_H

#include "internal.h"

typedef enum shape { SHAPE_TASK, SHAPE_CHAIN, SHAPE_GROUP, SHAPE_CHORD, SHAPE_CHUNKS, SHAPE_MAP, SHAPE_STARMAP } shape;

typedef struct sigs {
    const th_sig *list;
    size_t count;
} sigs;

/** A member of a map. */
typedef struct member {
    text name;
    th_json value;
} member;

typedef struct members {
    const member *list;
    size_t count;
} members;

struct th_signature {
    th_call *call;
    text task;
    shape shape;
    th_json args;
    /** Of a call of a task. */
    th_json kwargs;
    /** The steps of a chain, the members of a group, the header of a chord. */
    sigs tasks;
    /** The body of a chord, NULL if it has none; of chunks and maps the task. */
    th_sig inner;
    /** Of chunks and maps. */
    th_json it, n;
    /** Of a chord, what else is in its keyword arguments. */
    members beside;
    /** Without those that hang on it. */
    members options;
    sigs links, errbacks;
    bool immutable;
    /** Members of its map that only others know. */
    members others;
    /** What cannot be published is told when it is used. */
    const char *broken;
};

typedef struct th_signature signature;

/** A copy, to be changed before anybody sees it. */
signature *changed(th_sig signature);
signature *new_signature(th_call *call, const char *task, size_t length, shape shape);
void break_by(signature *signature, const char *why);
sigs add_sig(th_call *call, sigs list, th_sig one);
sigs add_sigs(th_call *call, sigs list, sigs others);
members set_member(th_call *call, members list, text name, th_json value);
th_sig link_to(th_sig signature, th_sig callback);
th_sig link_error_to(th_sig signature, th_sig errback);
/** Signatures that hang on another: one, or a list of them. Why they are none, NULL if they are. */
const char *read_attached(th_call *call, th_json json, unsigned depth, sigs *out);
/** Celery's names of what is no call of a task. */
const char *shape_task(shape shape);
const char *shape_name(shape shape);

#define SIGNATURE_DEPTH_MAX 200

#endif
