package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"testing"
)

func TestWhatIsPackedComesBack(t *testing.T) {
	packed, err := pack(nil, PackArgs{"naïve ☃"})
	if err != nil || len(packed.SHA256) != 64 {
		t.Fatal(packed, err)
	}
	reader, err := gzip.NewReader(bytes.NewReader(packed.Data))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(reader); string(text) != "naïve ☃" || err != nil {
		t.Error(string(text), err)
	}
}
