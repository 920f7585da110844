//go:build wasip1

package abi

import (
	"strings"
	"unsafe"
)

// Area is where imports put answers that are more than one number. It has a place of its own, since a stack may move
// while the host still writes.
var Area [16]uint64

// Answer is the address of [Area], as imports take it.
func Answer() unsafe.Pointer {
	return unsafe.Pointer(&Area)
}

// Byte reads the number at so many bytes of the answer: a case, or a bool.
func Byte(at uintptr) uint8 {
	return *(*uint8)(unsafe.Add(Answer(), at))
}

// Word reads 32 bits of the answer: a handle or a length.
func Word(at uintptr) uint32 {
	return *(*uint32)(unsafe.Add(Answer(), at))
}

// Long reads 64 bits of the answer.
func Long(at uintptr) uint64 {
	return *(*uint64)(unsafe.Add(Answer(), at))
}

// Text copies the text whose address and length are in the answer.
func Text(at uintptr) string {
	return Copy(Word(at), Word(at+4))
}

// Bytes copies the bytes whose address and length are in the answer.
func Bytes(at uintptr) []byte {
	return []byte(view(Word(at), Word(at+4)))
}

// Texts copies a list of texts.
func Texts(at uintptr) []string {
	list, length := uintptr(Word(at)), int(Word(at+4))
	texts := make([]string, length)
	for i := range texts {
		text := (*[2]uint32)(pointer(list + uintptr(8*i)))
		texts[i] = Copy(text[0], text[1])
	}
	return texts
}

// Pairs copies a list of pairs of texts, or of texts and bytes.
func Pairs(at uintptr) [][2]string {
	list, length := uintptr(Word(at)), int(Word(at+4))
	pairs := make([][2]string, length)
	for i := range pairs {
		pair := (*[4]uint32)(pointer(list + uintptr(16*i)))
		pairs[i] = [2]string{Copy(pair[0], pair[1]), Copy(pair[2], pair[3])}
	}
	return pairs
}

// View is the text or the bytes whose address and length are in the answer, until [Free].
func View(at uintptr) string {
	return view(Word(at), Word(at+4))
}

// Copy copies a text that the host has handed over.
func Copy(address, length uint32) string {
	return strings.Clone(view(address, length))
}

func view(address, length uint32) string {
	return unsafe.String((*byte)(pointer(uintptr(address))), int(length))
}

// pointer makes an address one: what the host hands over is in no object that Go's collector knows.
func pointer(address uintptr) unsafe.Pointer {
	return *(*unsafe.Pointer)(unsafe.Pointer(&address))
}
