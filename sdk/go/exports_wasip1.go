package taskhost

import (
	"os"
	"strings"
	"unsafe"

	"taskhost.dev/taskhost/internal/abi"
)

// The two functions that a plugin exports, laid out by the component model's canonical rules. What they give away is kept
// here until the host has read it: nothing of it is moved, but what nobody holds would be collected.

// wire writes records where the host reads them.
type wire struct {
	words []uint32
}

// held is all that the host may still read.
var held struct {
	words []uint32
	texts []string
}

func (w *wire) text(at int, text string) {
	held.texts = append(held.texts, text)
	w.words[at] = uint32(uintptr(unsafe.Pointer(unsafe.StringData(text))))
	w.words[at+1] = uint32(len(text))
}

// some writes an optional text, whose case is in a word before it.
func (w *wire) some(at int, text string) {
	w.words[at] = 1
	w.text(at+1, text)
}

func (w *wire) address() unsafe.Pointer {
	return unsafe.Pointer(unsafe.SliceData(w.words))
}

// release lets go of what the host has read.
func release() {
	held.words, held.texts = nil, nil
}

//go:wasmexport taskhost:task/tasks@0.1.0#describe
func exportDescribe() unsafe.Pointer {
	const record, setting = 9, 4
	infos, wrong := tasks()
	if len(wrong) > 0 {
		// The host tells the last words of what it could not load.
		os.Stderr.WriteString(strings.Join(wrong, "\n") + "\n")
		os.Exit(1)
	}
	all := 0
	for _, info := range infos {
		all += record + setting*len(info.options)
	}
	w := wire{make([]uint32, 2+all)}
	held.words = w.words
	next := 2 + record*len(infos)
	address := func(at int) uint32 { return uint32(uintptr(unsafe.Pointer(&w.words[at]))) }
	w.words[0], w.words[1] = address(2), uint32(len(infos))
	for i, info := range infos {
		at := 2 + record*i
		w.text(at, info.name)
		w.text(at+2, info.summary)
		w.some(at+4, info.schema)
		w.words[at+8] = uint32(len(info.options))
		if len(info.options) == 0 {
			w.words[at+7] = address(0) // any that is aligned
			continue
		}
		w.words[at+7] = address(next)
		for _, option := range info.options {
			w.text(next, option.name)
			w.text(next+2, option.json)
			next += setting
		}
	}
	return w.address()
}

//go:wasmexport cabi_post_taskhost:task/tasks@0.1.0#describe
func freeDescribe(unsafe.Pointer) {
	release()
}

//go:wasmexport taskhost:task/tasks@0.1.0#run
func exportRun(id, idLen, name, nameLen, args, argsLen, kwargs, kwargsLen, retries uint32) unsafe.Pointer {
	call := [4]string{abi.Copy(id, idLen), abi.Copy(name, nameLen), abi.Copy(args, argsLen), abi.Copy(kwargs, kwargsLen)}
	abi.Free()
	result, ended := run(call[0], call[1], call[2], call[3], int(retries))
	// A result of a text or of the variant failure, whose largest case begins at the fourth word.
	const words = 28
	clear(answer[:])
	w := wire{answer[:words]}
	if ended == nil {
		w.text(2, result)
		return w.address()
	}
	w.words[0], w.words[2] = 1, uint32(ended.kind)
	switch ended.kind {
	case failed:
		w.exception(4, ended.exception)
	case retried:
		w.retry(4, ended)
	case rejected:
		if ended.requeue {
			w.words[4] = 1
		}
	case replaced:
		w.text(4, ended.signature)
	}
	return w.address()
}

// answer is what run gives away, aligned for the float in it.
var answer = (*[28]uint32)(unsafe.Pointer(new([14]uint64)))

//go:wasmexport cabi_post_taskhost:task/tasks@0.1.0#run
func freeRun(unsafe.Pointer) {
	release()
}

// exception writes the record error, of ten words.
func (w *wire) exception(at int, raised *exception) {
	w.text(at, raised.class)
	if raised.module != "" {
		w.some(at+2, raised.module)
	}
	w.text(at+5, raised.arguments)
	w.some(at+7, raised.traceback)
}

// retry writes the record retry, of 24 words.
func (w *wire) retry(at int, ended *failure) {
	if ended.exception != nil {
		w.words[at] = 1
		w.exception(at+1, ended.exception)
	}
	wish := ended.retry
	switch {
	case wish.countdown != nil:
		w.words[at+12] = 1
		*(*float64)(unsafe.Pointer(&w.words[at+14])) = *wish.countdown
	case wish.eta != "":
		w.words[at+12] = 2
		w.text(at+14, wish.eta)
	}
	if wish.maxRetries != nil {
		w.words[at+16], w.words[at+17] = 1, *wish.maxRetries
	}
	if wish.args != nil {
		w.some(at+18, wish.args.text())
	}
	if wish.kwargs != nil {
		w.some(at+21, wish.kwargs.text())
	}
}
