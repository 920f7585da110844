/*
 * Composes signatures by the rules of Celery's operators (celery/canvas.py `_fold_chain` and the `__or__` of each class), so
 * that what a task builds is what a Python client would have built.
 */
#include "signature.h"

#include <string.h>

static const char *const NAMES[][2] = {
    {"", NULL},
    {"celery.chain", "chain"},
    {"celery.group", "group"},
    {"celery.chord", "chord"},
    {"celery.chunks", "chunks"},
    {"celery.map", "xmap"},
    {"celery.starmap", "xstarmap"},
};

const char *shape_task(shape shape) { return NAMES[shape][0]; }
const char *shape_name(shape shape) { return NAMES[shape][1]; }

static const sigs NOTHING = {NULL, 0};

static signature *composed(th_call *call, shape shape) {
    return new_signature(call, NAMES[shape][0], strlen(NAMES[shape][0]), shape);
}

static th_sig chain_of(th_call *call, sigs steps) {
    signature *made = composed(call, SHAPE_CHAIN);
    made->tasks = steps;
    return made;
}

static th_sig chord_of(th_call *call, sigs header, th_sig body) {
    signature *made = composed(call, SHAPE_CHORD);
    made->tasks = header;
    made->inner = body;
    made->beside = set_member(call, made->beside, (text){"kwargs", 6}, json_of("{}"));
    return made;
}

static bool is_empty_group(th_sig given) { return given->shape == SHAPE_GROUP && given->tasks.count == 0; }

/* The only member of a group that has one. */
static th_sig unroll(th_sig given) {
    return given->shape == SHAPE_GROUP && given->tasks.count == 1 ? given->tasks.list[0] : given;
}

/* What follows a chord follows its body. */
static th_sig into_body(th_sig chord, th_sig other) {
    signature *made = changed(chord);
    made->inner = chord->inner == NULL ? other : th_then(chord->inner, other);
    return made;
}

/* The steps of a chain, with what hangs on the chain hung on them. */
static sigs unchain(th_sig chain) {
    if (chain->tasks.count == 0) {
        return NOTHING;
    }
    th_call *call = chain->call;
    th_sig *steps = arena_take(call->arena, chain->tasks.count * sizeof *steps, sizeof(void *));
    memcpy(steps, chain->tasks.list, chain->tasks.count * sizeof *steps);
    size_t last = chain->tasks.count - 1;
    for (size_t i = 0; i < chain->links.count; i++) {
        steps[last] = link_to(steps[last], chain->links.list[i]);
    }
    for (size_t step = 0; step <= last; step++) {
        for (size_t i = 0; i < chain->errbacks.count; i++) {
            steps[step] = link_error_to(steps[step], chain->errbacks.list[i]);
        }
    }
    if (chain->broken != NULL) {
        signature *first = changed(steps[0]);
        break_by(first, chain->broken);
        steps[0] = first;
    }
    return (sigs){steps, chain->tasks.count};
}

static th_sig pop(sigs *steps) { return steps->count == 0 ? NULL : steps->list[--steps->count]; }

/* Adds to the steps of a chain; gives what is no chain any more, and has taken the steps. */
static th_sig append(th_call *call, sigs *steps, th_sig other) {
    if (is_empty_group(other)) {
        return NULL;
    }
    if (other->shape == SHAPE_GROUP) {
        if (other->tasks.count == 1) {
            return append(call, steps, unroll(other));
        }
        if (steps->count == 0) {
            return other;
        }
        th_sig last = pop(steps);
        *steps = last->shape == SHAPE_CHORD ? add_sig(call, *steps, into_body(last, other))
                                            : add_sig(call, add_sig(call, *steps, last), other);
        return NULL;
    }
    if (other->shape == SHAPE_CHAIN) {
        sigs rest = unchain(other);
        for (size_t i = 0; i < rest.count; i++) {
            th_sig no_chain = append(call, steps, rest.list[i]);
            if (no_chain != NULL) {
                while (++i < rest.count) {
                    no_chain = th_then(no_chain, rest.list[i]);
                }
                return no_chain;
            }
        }
        return NULL;
    }
    th_sig last = pop(steps);
    if (last == NULL) {
        *steps = add_sig(call, *steps, other);
    } else if (last->shape == SHAPE_GROUP) {
        *steps = add_sig(call, *steps, chord_of(call, last->tasks, other));
    } else if (last->shape == SHAPE_CHORD && other->shape != SHAPE_CHORD) {
        *steps = add_sig(call, *steps, into_body(last, other));
    } else {
        *steps = add_sig(call, add_sig(call, *steps, last), other);
    }
    return NULL;
}

th_sig th_then(th_sig first, th_sig second) {
    th_call *call = first->call;
    if (is_empty_group(second)) {
        return first;
    }
    if (first->shape == SHAPE_CHAIN) {
        sigs steps = unchain(first);
        th_sig no_chain = append(call, &steps, second);
        return no_chain != NULL ? no_chain : chain_of(call, steps);
    }
    if (first->shape == SHAPE_GROUP) {
        return chord_of(call, first->tasks, second);
    }
    if (first->shape == SHAPE_CHORD) {
        if (second->shape == SHAPE_GROUP && second->tasks.count == 1) {
            return into_body(first, unroll(second));
        }
        if (second->shape != SHAPE_GROUP && second->shape != SHAPE_CHAIN) {
            return into_body(first, second);
        }
    }
    if (second->shape == SHAPE_CHAIN) {
        return chain_of(call, add_sigs(call, add_sig(call, NOTHING, first), unchain(second)));
    }
    return chain_of(call, add_sig(call, add_sig(call, NOTHING, first), unroll(second)));
}

th_sig th_chain_of(th_call *call, const th_sig *tasks, size_t count) {
    sigs steps = NOTHING;
    for (size_t i = 0; i < count; i++) {
        th_sig no_chain = append(call, &steps, tasks[i]);
        if (no_chain != NULL) {
            while (++i < count) {
                no_chain = th_then(no_chain, tasks[i]);
            }
            return no_chain;
        }
    }
    return chain_of(call, steps);
}

th_sig th_group_of(th_call *call, const th_sig *tasks, size_t count) {
    signature *made = composed(call, SHAPE_GROUP);
    made->tasks = add_sigs(call, NOTHING, (sigs){tasks, count});
    return made;
}

th_sig th_chord_of(th_call *call, const th_sig *header, size_t count, th_sig body) {
    return chord_of(call, add_sigs(call, NOTHING, (sigs){header, count}), body);
}

static th_sig over(shape shape, th_sig task, th_json it, size_t n) {
    signature *made = composed(task->call, shape);
    made->inner = task;
    made->it = it;
    made->immutable = true;
    if (th_json_kind(it) != TH_ARRAY) {
        made->it = json_of("[]");
        break_by(made, "what it is called with is no list");
    }
    if (shape == SHAPE_CHUNKS) {
        made->n = th_jsonf(task->call, "%zu", n);
    }
    return made;
}

th_sig th_chunks(th_sig task, th_json lists, size_t size) { return over(SHAPE_CHUNKS, task, lists, size); }
th_sig th_xmap(th_sig task, th_json arguments) { return over(SHAPE_MAP, task, arguments, 0); }
th_sig th_xstarmap(th_sig task, th_json lists) { return over(SHAPE_STARMAP, task, lists, 0); }
