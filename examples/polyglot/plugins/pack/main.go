// Packs texts.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"taskhost.dev/taskhost"
)

func init() {
	taskhost.Task("pack.gzip", pack, taskhost.Doc("Packs a text, and says by which sum it is known."), taskhost.TimeLimit(20*time.Second))
}

func main() {}

// PackArgs are a text.
type PackArgs struct {
	Text string `json:"text"`
}

// Packed is what became of it.
type Packed struct {
	// Data is base64 in JSON.
	Data []byte `json:"data"`
	// SHA256 is the sum of the data.
	SHA256 string `json:"sha256"`
}

func pack(_ *taskhost.Context, args PackArgs) (*Packed, error) {
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	if _, err := writer.Write([]byte(args.Text)); err != nil {
		return nil, err
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(packed.Bytes())
	return &Packed{packed.Bytes(), hex.EncodeToString(sum[:])}, nil
}
