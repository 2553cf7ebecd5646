package logs

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

// One operation is one line of 100 bytes, from the worker's write to the file.
func BenchmarkLine(b *testing.B) {
	for _, c := range []struct {
		name  string
		burst int
	}{{"one write each", 1}, {"bursts of 64", 64}} {
		b.Run(c.name, func(b *testing.B) {
			s, _ := newSink(b, plenty)
			st := newStream(b, s, Meta{Invocation: 1})
			text := bytes.Repeat([]byte(burst(1)), c.burst)
			b.SetBytes(100)
			for i := 0; i < b.N; i += c.burst {
				unix.Write(st.WriteEnd(), text)
			}
			st.Finish()
			settle(b, s)
		})
	}
}
