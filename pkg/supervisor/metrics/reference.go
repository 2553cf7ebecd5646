package metrics

import (
	"fmt"
	"io"
	"strings"
)

const referenceHead = `# Metrics

<!-- Generated from the table of series: go generate ./pkg/supervisor/metrics -->

What ` + "`GET /metrics`" + ` answers where ` + "`metrics_listen`" + ` says; [how to scrape
it](../how-to/metrics.md) has more. A unit is a service, or a socket (` + "`http.socket`" + `). What
is not known has no series, and a unit that is gone has none either. Counters begin at
zero when supervisord is started, and those of a service when it is first named; those
of a socket are the kernel's, and begin when it is bound.

| series | type | labels | meaning |
|---|---|---|---|
`

// WriteReference writes docs/reference/metrics.md.
func WriteReference(w io.Writer) error {
	var b strings.Builder
	b.WriteString(referenceHead)
	for _, f := range families {
		labels := ""
		if len(f.labels) > 0 {
			labels = "`" + strings.Join(f.labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.name, f.kind, labels, f.help)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
