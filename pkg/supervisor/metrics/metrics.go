// Package metrics tells Prometheus what supervisord knows.
//
// Nothing is kept for it but [Counters] of what no snapshot has: each scrape asks
// for one [Snapshot] and writes that, so that what nobody scrapes costs nothing.
// All series stand in one table, families, with what they mean and where their
// values come from; the reference is written from the same table.
//
// Whoever can connect may read, so labels are the names of units, states of a
// fixed set, and the addresses of listening sockets: never arguments, paths of
// programs, environments, or what a service says of itself.
package metrics

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

// A Snapshot is what is written in one scrape.
type Snapshot struct {
	Info    ipc.Info
	Status  ipc.Status
	Counted map[string]*Counters // by service, of those in Status
}

// A kind is a type of Prometheus.
type kind string

const (
	gauge   kind = "gauge"
	counter kind = "counter"
)

// A family is all series of one name.
type family struct {
	name   string
	kind   kind
	labels []string
	help   string // one line
	of     func(*Snapshot, put)
}

// A put takes one value, with the values of the family's labels.
type put func(value float64, labels ...string)

// Write writes s in the text format of Prometheus, version 0.0.4.
func Write(w io.Writer, s *Snapshot) error {
	var b bytes.Buffer
	for i := range families {
		families[i].write(&b, s)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// write writes nothing of a family that has no series now. A series is written
// once: a second one of the same labels would void the whole scrape.
func (f *family) write(b *bytes.Buffer, s *Snapshot) {
	seen := map[string]bool{}
	f.of(s, func(value float64, labels ...string) {
		series := f.series(labels)
		if seen[series] {
			return
		}
		if len(seen) == 0 {
			fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s %s\n", f.name, helpEscapes.Replace(f.help), f.name, f.kind)
		}
		seen[series] = true
		b.WriteString(series + " " + strconv.FormatFloat(value, 'f', -1, 64) + "\n")
	})
}

// series is a name with its labels.
func (f *family) series(values []string) string {
	if len(values) != len(f.labels) {
		panic(fmt.Sprintf("%s has labels %q, not %d of them", f.name, f.labels, len(values)))
	}
	if len(values) == 0 {
		return f.name
	}
	pairs := make([]string, len(values))
	for i, value := range values {
		pairs[i] = f.labels[i] + `="` + labelEscapes.Replace(strings.ToValidUTF8(value, "\uFFFD")) + `"`
	}
	return f.name + "{" + strings.Join(pairs, ",") + "}"
}

var (
	helpEscapes  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	labelEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)
