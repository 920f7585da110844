//go:build wasip1

// Package abi hands values over the border between a component and its host, by the component model's canonical
// rules.
//
// It knows no interface. Whoever calls an import reads its answer from [Area] at once, and what it wants to keep it
// copies, since the next answer comes to the same place.
package abi

import "unsafe"

// The host asks for memory in the middle of a call, when nothing but the memory may be touched: an import would be a
// trap, and Go's allocator calls some (its collector asks for the time) and may run other goroutines. So texts from
// the host go to memory that Go's allocator does not know, and are copied from there.
var (
	first  [16 << 10]byte
	room   = unsafe.Pointer(&first)
	size   = uintptr(len(first))
	used   uintptr
	inited bool
)

func init() {
	inited = true
}

// Rooms are made in multiples of this, which is a page of WebAssembly.
const page = 64 << 10

//go:linkname sbrk runtime.sbrk
func sbrk(n uintptr) unsafe.Pointer

// trap ends the instance, and calls nothing to do so.
func trap()

// realloc gives the host room for what it hands over.
//
//go:nosplit
//go:wasmexport cabi_realloc
func realloc(old unsafe.Pointer, oldSize, align, newSize uint32) unsafe.Pointer {
	if !inited {
		// The adapter of WASI takes what it needs while Go's runtime starts, and for good.
		return grow(uintptr(newSize))
	}
	at := (used + uintptr(align) - 1) &^ (uintptr(align) - 1)
	if at+uintptr(newSize) > size {
		return move(old, oldSize, newSize)
	}
	used = at + uintptr(newSize)
	given := unsafe.Add(room, at)
	fill(given, old, oldSize)
	return given
}

// move goes on in a room that is larger. What is in the one before stays where it is until it has been copied.
func move(old unsafe.Pointer, oldSize, newSize uint32) unsafe.Pointer {
	size = max(2*size, (uintptr(newSize)+page-1)&^(page-1))
	room = grow(size)
	used = uintptr(newSize)
	fill(room, old, oldSize)
	return room
}

func grow(size uintptr) unsafe.Pointer {
	given := sbrk(size)
	if given == nil {
		trap()
	}
	return given
}

//go:nosplit
func fill(to, from unsafe.Pointer, size uint32) {
	for i := uintptr(0); i < uintptr(size); i++ {
		*(*byte)(unsafe.Add(to, i)) = *(*byte)(unsafe.Add(from, i))
	}
}

// Free says that everything the host has handed over was copied.
func Free() {
	used = 0
}
