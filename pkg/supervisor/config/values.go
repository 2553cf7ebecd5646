package config

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A kind is one way to write a value: how the reference calls it, and how it is
// read. read reports what is wrong where it is, and returns anything then.
type kind[T any] struct {
	name  string
	read  func(cursor) T
	shape schema // what JSON Schema can say of it; nil: shapes has it by its name
}

var (
	text     = kind[string]{name: "string", read: readText}
	boolean  = kind[bool]{name: "boolean", read: readBool}
	duration = kind[time.Duration]{name: "duration", read: func(c cursor) time.Duration { return readDuration(c, 0, false) }}
	positive = kind[time.Duration]{name: "duration", read: func(c cursor) time.Duration { return readDuration(c, 1, false) }, shape: moreThanZero(aDuration)}
	timeout  = kind[time.Duration]{name: "duration or infinity", read: func(c cursor) time.Duration { return readDuration(c, 1, true) }}
	octal    = kind[int]{name: "octal string", read: readOctal}
	signal   = kind[syscall.Signal]{name: "signal", read: readSignal}
	percent  = kind[int]{name: "per cent", read: readPercent}
	strs     = kind[[]string]{name: "list of strings", read: func(c cursor) []string { return each(c, readText) }}
)

// sized reads bytes, from lo to hi.
func sized(lo, hi int64) kind[int64] {
	return kind[int64]{name: "size", read: func(c cursor) int64 { return readSize(c, lo, hi) }, shape: from(lo, hi).or(matching(whole(aSize)))}
}

// integer reads a whole number from lo to hi.
func integer(lo, hi int64) kind[int] {
	return kind[int]{name: "integer", read: func(c cursor) int { return readInt(c, lo, hi) }, shape: from(lo, hi)}
}

// maybe reads a value that is nil if it is not written.
func maybe[T any](of kind[T]) kind[*T] {
	return kind[*T]{name: of.name, shape: of.shape, read: func(c cursor) *T {
		v := of.read(c)
		return &v
	}}
}

const noNUL = "a string cannot have a NUL character in it"

func readText(c cursor) string {
	s, ok := c.value.(string)
	switch {
	case !ok && (noun(c.value) == "a number" || noun(c.value) == "true or false"):
		c.wrong("%s is not a string; write \"%s\"", show(c.value), show(c.value))
	case !ok:
		c.wrong("a string was expected, not %s", noun(c.value))
	case strings.ContainsRune(s, 0):
		c.wrong(noNUL)
		return ""
	}
	return s
}

// forwards is where lines are copied to.
type forwards string

const (
	toStdout  forwards = "stdout"
	toJournal forwards = "journal"
)

// forward is true, false or "journal".
var forward = kind[forwards]{name: "boolean, or journal", read: func(c cursor) forwards {
	switch c.value {
	case true:
		return toStdout
	case "journal":
		return toJournal
	case false:
	default:
		c.wrong("%s is not true, false or \"journal\"", show(c.value))
	}
	return ""
}}

func readBool(c cursor) bool {
	b, ok := c.value.(bool)
	if !ok {
		c.wrong("%s is not a boolean; write true or false, without quotes", show(c.value))
	}
	return b
}

// likely is the number that was probably meant, or one that could be.
func likely(v any, lo, hi int64) int64 {
	n := int64(10)
	switch v := v.(type) {
	case string:
		if meant, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err == nil {
			n = meant
		}
	case float64:
		n = int64(v)
	}
	return max(lo, min(hi, n))
}

func readInt(c cursor, lo, hi int64) int {
	n, ok := c.value.(int64)
	switch {
	case !ok:
		c.wrong("%s is not a whole number; write one, without quotes, like %d", show(c.value), likely(c.value, lo, hi))
	case n < lo || n > hi:
		c.wrong("%d is out of range; it can be from %d to %d", n, lo, hi)
	}
	return int(n)
}

func readPercent(c cursor) int {
	s, ok := c.value.(string)
	digits, percent := strings.CutSuffix(s, "%")
	n, err := strconv.ParseUint(digits, 10, 32)
	switch {
	case !ok || !percent || err != nil:
		c.wrong("%s is not a share; write a whole percentage, like \"%d%%\"", show(c.value), likely(c.value, 0, 100))
	case n > 100:
		c.wrong("%s is more than 100%%; it can be from \"0%%\" to \"100%%\"", s)
	}
	return int(n)
}

// each reads a list. A single value gets a hint, not a guess.
func each[T any](c cursor, read func(cursor) T) (all []T) {
	list, ok := c.value.([]any)
	if !ok {
		if s, ok := c.value.(string); ok {
			c.wrong("a list was expected, not a string; write %s = [%q]", c.name, s)
		} else {
			c.wrong("a list was expected, not %s", noun(c.value))
		}
		return nil
	}
	for i, v := range list {
		all = append(all, read(c.element(i, v)))
	}
	return all
}

// units of time, as systemd.time(7) has them, but no months and years.
var times = map[string]time.Duration{
	"us": time.Microsecond, "µs": time.Microsecond, "usec": time.Microsecond, "ms": time.Millisecond, "msec": time.Millisecond,
	"s": time.Second, "sec": time.Second, "second": time.Second, "seconds": time.Second,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute, "minutes": time.Minute,
	"h": time.Hour, "hr": time.Hour, "hour": time.Hour, "hours": time.Hour,
	"d": day, "day": day, "days": day, "w": 7 * day, "week": 7 * day, "weeks": 7 * day,
}

const day = 24 * time.Hour

var timePart = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)\s*([\pLµ]*)\s*`) })

// readDuration reads "1m30s". Nothing below least is one: a zero that means no
// limit in systemd is an error here, and so is a number without a unit, which
// may have been meant in any.
func readDuration(c cursor, least time.Duration, infinite bool) time.Duration {
	s, ok := c.value.(string)
	if !ok {
		if n := noun(c.value); strings.HasPrefix(n, "a number") {
			c.wrong("%s %s", show(c.value), noUnit(show(c.value), infinite))
		} else {
			c.wrong("a duration was expected, not %s; write one like \"1m30s\"", n)
		}
		return 0
	}
	if s == "infinity" {
		if !infinite {
			c.wrong("it cannot be infinite; write a duration like \"30s\"")
		}
		return unit.Infinity
	}
	if infinite && strings.EqualFold(s, "infinity") {
		c.wrong("%q is not a duration; write \"infinity\", in small letters", s)
		return 0
	}
	d, why := parseDuration(s)
	switch {
	case strings.Trim(s, "0123456789.") == "" && s != "":
		c.wrong("%q %s", s, noUnit(s, infinite))
	case why != "":
		c.wrong("%q %s", s, why)
	case d < least && infinite:
		c.wrong("%q leaves no time at all; write \"infinity\" for no limit", s)
	case d < least:
		c.wrong("%q is no time at all; it must be longer", s)
	}
	return d
}

// parseDuration says why it is none, if so: as the end of a sentence.
func parseDuration(s string) (sum time.Duration, why string) {
	rest := strings.TrimSpace(s)
	if rest == "" {
		return 0, `is not a duration; write one like "1m30s"`
	}
	for rest != "" {
		m := timePart().FindStringSubmatch(rest)
		if m == nil {
			return 0, `is not a duration; write one like "1m30s"`
		}
		one, known := times[m[2]]
		if m[2] == "" {
			return 0, fmt.Sprintf("has no unit after %s; write one of us, ms, s, m, h, d there", m[1])
		}
		if !known {
			return 0, fmt.Sprintf("has the unit %q, which does not exist; there are us, ms, s, m, h and d", m[2])
		}
		f, _ := strconv.ParseFloat(m[1], 64)
		if part := math.Round(f * float64(one)); part < float64(unit.Infinity-sum)-1e6 {
			sum += time.Duration(part)
		} else {
			return 0, `is longer than can be counted; write "infinity" if no end is meant`
		}
		rest = rest[len(m[0]):]
	}
	return sum, ""
}

// noUnit is said of a bare number. Zero may have been meant as systemd has it.
func noUnit(number string, infinite bool) string {
	if infinite && strings.Trim(number, "0.") == "" {
		return `is no time at all; write "infinity" for no limit`
	}
	return fmt.Sprintf(`has no unit; write "%ss" for seconds, or another of us, ms, s, m, h, d`, number)
}

var sizes = map[string]uint{"": 0, "B": 0, "K": 10, "M": 20, "G": 30, "T": 40}

// readSize reads bytes: a number, or a string with K, M, G or T after it, which
// are powers of 1024 as in systemd.
func readSize(c cursor, lo, hi int64) (n int64) {
	switch v := c.value.(type) {
	case int64:
		n = v
	case string:
		bytes, ok := parseSize(v)
		if !ok {
			c.wrong("%q is not a size; write a number and K, M, G or T (of 1024 each), like \"10M\"", v)
			return 0
		}
		n = int64(bytes)
	default:
		c.wrong("a size was expected, not %s; write one like \"10M\"", noun(v))
		return 0
	}
	if n < lo || n > hi {
		c.wrong("%s is out of range; it can be from %s to %s", show(c.value), sizeText(lo), sizeText(hi))
	}
	return n
}

// sizeText is a number of bytes as one would write it.
func sizeText(n int64) string {
	units := "KMGT"
	if n%1024 != 0 || n == 0 {
		return strconv.FormatInt(n, 10)
	}
	i := -1
	for n%1024 == 0 && i < len(units)-1 {
		n, i = n/1024, i+1
	}
	return fmt.Sprintf("%d%c", n, units[i])
}

func parseSize(s string) (uint64, bool) {
	number := strings.TrimRight(s, "BKMGT")
	shift, known := sizes[s[len(number):]]
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || !known || bits.Len64(n)+int(shift) > 63 {
		return 0, false
	}
	return n << shift, true
}

// readOctal reads a mode. TOML has no octal numbers with a leading zero, so 0022
// would be a syntax error and 22 something else.
func readOctal(c cursor) int {
	if n, ok := c.value.(int64); ok {
		octal := fmt.Sprintf("%04d", n)
		if strings.ContainsAny(octal, "89-") { // 0o22 was written, and is 18 by now
			octal = fmt.Sprintf("%04o", max(n, 0))
		}
		c.wrong("an octal value is a string; write %q", octal)
		return 0
	}
	s, ok := c.value.(string)
	n, err := strconv.ParseUint(s, 8, 32)
	switch {
	case !ok:
		c.wrong("an octal string was expected, not %s; write one like \"0022\"", noun(c.value))
	case err != nil || n > 0o777:
		c.wrong("%q is not an octal number from 0000 to 0777; write one like \"0022\"", s)
	}
	return int(n)
}

// realTime is SIGRTMIN as the C library has it, which keeps two for itself.
const realTime = 34

func readSignal(c cursor) syscall.Signal {
	if n, ok := c.value.(int64); ok {
		if n < 1 || n > 64 {
			c.wrong("%d is not a signal; they are numbered from 1 to 64", n)
		}
		return syscall.Signal(n)
	}
	s, ok := c.value.(string)
	if !ok {
		c.wrong("a signal was expected, not %s; write one like \"SIGTERM\"", noun(c.value))
		return 0
	}
	sig := ParseSignal(s)
	if sig == 0 {
		c.wrong("%q is not a signal; write %s", s, c.file.load.signalHint(s))
	}
	return sig
}

// ParseSignal takes "TERM", "SIGTERM", "RTMIN+3", "RTMAX-1" and "15"; 0: it is none of these.
func ParseSignal(s string) syscall.Signal {
	if n, err := strconv.Atoi(s); err == nil && n >= 1 && n <= 64 && strconv.Itoa(n) == s {
		return syscall.Signal(n)
	}
	name := "SIG" + strings.TrimPrefix(s, "SIG")
	if sig := unix.SignalNum(name); sig != 0 {
		return sig
	}
	if m := realTimeName().FindStringSubmatch(name); m != nil {
		n, _ := strconv.Atoi(cmp.Or(m[2], m[4], "0"))
		if m[1] != "" {
			return syscall.Signal(realTime + n)
		}
		return syscall.Signal(64 - n)
	}
	return 0
}

// aRealTime is how signals without a name are written.
const aRealTime = `(RTMIN)(?:\+([0-9]|[12][0-9]|30))?|(RTMAX)(?:-([0-9]|[12][0-9]|30))?`

var realTimeName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile("^SIG(?:" + aRealTime + ")$") })

// signalNames are those of signals that have one, without SIG.
var signalNames = sync.OnceValue(func() (names []string) {
	for n := range 65 {
		if name, ok := strings.CutPrefix(unix.SignalName(syscall.Signal(n)), "SIG"); ok {
			names = append(names, name)
		}
	}
	return names
})

func (l *load) signalHint(s string) string {
	if name := l.closest(strings.TrimPrefix(strings.ToUpper(s), "SIG"), signalNames()); name != "" {
		return strconv.Quote("SIG" + name)
	}
	return `a name like "SIGTERM" or a number from 1 to 64`
}

// readStatuses reads ends that count as success: numbers are exit statuses,
// names are signals.
func readStatuses(c cursor) (all unit.Statuses) {
	each(c, func(c cursor) struct{} {
		switch v := c.value.(type) {
		case int64:
			if v < 0 || v > 255 {
				c.wrong("%d is not an exit status; they are from 0 to 255", v)
			}
			all.Codes = append(all.Codes, int(v))
		case string:
			if n, err := strconv.Atoi(v); err == nil {
				c.wrong("%q is a string; write %d for the exit status", v, n)
			} else if sig := readSignal(c); sig != 0 {
				all.Signals = append(all.Signals, sig)
			}
		default:
			c.wrong("an exit status or a signal was expected, not %s; write them like [143, \"SIGUSR1\"]", noun(v))
		}
		return struct{}{}
	})
	return all
}

// systemds are words of systemd that are not ours, with what is to be written
// instead.
var systemds = map[string]string{
	"simple":  `; write "exec", which also waits until the program runs`,
	"idle":    `; write "exec"`,
	"forking": `; have the program stay in the foreground, and write "exec" or "notify"`,
	"none":    `; write "process" to leave all but the main process alone`,
}

// A choice is one of a few words. Those of later are known, but do not work yet.
func choice[T ~string](now []T, later ...T) kind[T] {
	words := mapped(now, func(w T) string { return string(w) })
	return kind[T]{name: strings.Join(words, " | "), shape: oneOf(words), read: func(c cursor) T {
		s, ok := c.value.(string)
		if !ok {
			c.wrong("%s was expected, not %s", list(quoted(words)), noun(c.value))
			return ""
		}
		for _, w := range now {
			if string(w) == s {
				return w
			}
		}
		if slices.Contains(later, T(s)) {
			c.wrong("%q is not supported%s", s, cmp.Or(systemds[s], " yet; write "+list(quoted(words))))
			return ""
		}
		if near := unit.Closest(s, words); near != "" {
			c.wrong("%q does not exist; did you mean %q?", s, near)
		} else {
			c.wrong("%q does not exist; it can be %s", s, list(quoted(words)))
		}
		return ""
	}}
}

func quoted(words []string) []string { return mapped(words, strconv.Quote) }
