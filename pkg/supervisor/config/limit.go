package config

import (
	"strconv"
	"strings"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Resources that package syscall has no name for: getrlimit(2).
const (
	rlimitRSS        = 5
	rlimitNPROC      = 6
	rlimitMEMLOCK    = 8
	rlimitLOCKS      = 10
	rlimitSIGPENDING = 11
	rlimitMSGQUEUE   = 12
	rlimitNICE       = 13
	rlimitRTPRIO     = 14
	rlimitRTTIME     = 15
)

// noLimit is RLIM_INFINITY.
const noLimit = 1<<64 - 1

// A measure is how the value of a limit is written.
type measure struct {
	name, example string
	parse         func(string) (uint64, bool)
}

var (
	counted        = measure{"number", "65536", func(s string) (uint64, bool) { n, err := strconv.ParseUint(s, 10, 63); return n, err == nil }}
	inBytes        = measure{"size", "64M", parseSize}
	inSeconds      = measure{"duration", "30s", func(s string) (uint64, bool) { return parseIn(s, time.Second) }}
	inMicroseconds = measure{"duration", "200ms", func(s string) (uint64, bool) { return parseIn(s, time.Microsecond) }}
)

// parseIn reads a duration as a number of units, rounded up.
func parseIn(s string, unit time.Duration) (uint64, bool) {
	d, why := parseDuration(s)
	return uint64(d/unit) + uint64(min(d%unit, 1)), why == ""
}

// limit reads one setrlimit(2) and appends it to those of the program.
func limit(resource int, of measure) reader { return limitReader{resource, of} }

type limitReader struct {
	resource int
	of       measure
}

func (r limitReader) kind() string { return r.of.name + ", infinity or soft:hard" }

func (r limitReader) schema() schema { return nil }

func (r limitReader) read(t *target, c cursor) {
	text, ok := c.value.(string)
	if n, isNumber := c.value.(int64); isNumber && n >= 0 && r.of.name != "duration" {
		text, ok = strconv.FormatInt(n, 10), true
	}
	soft, hard, both := strings.Cut(text, ":")
	if !both {
		hard = soft
	}
	l := unit.Limit{Resource: r.resource}
	var ok1, ok2 bool
	l.Soft, ok1 = r.value(soft)
	l.Hard, ok2 = r.value(hard)
	switch {
	case !ok || !ok1 || !ok2:
		c.wrong("%s is not a limit; write a %s like \"%s\", \"infinity\", or both limits as \"%s:infinity\"", show(c.value), r.of.name, r.of.example, r.of.example)
	case l.Soft > l.Hard:
		c.wrong("%s has a soft limit above the hard one; write the lower one first", show(c.value))
	default:
		t.u.Program.Limits = append(t.u.Program.Limits, l)
	}
}

func (r limitReader) value(s string) (uint64, bool) {
	if s == "infinity" {
		return noLimit, true
	}
	return r.of.parse(s)
}
