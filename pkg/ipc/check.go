package ipc

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Numbers and words from outside have ranges, and they are here. None of them
// is a path, and none is ever opened as one.

// MaxLines is how many lines of the past a request for logs may ask for.
const MaxLines = 100_000

// MaxRecords is how many records of the history a request may ask for.
const MaxRecords = 10_000

// Verbs are the operations that a job can perform.
var Verbs = []unit.Verb{unit.Start, unit.Stop, unit.Restart, unit.Reload, unit.Scale}

// MaxInstances is how many instances a service may have.
const MaxInstances = 1000

// ParseVerb is the inverse of [unit.Verb.String].
func ParseVerb(word string) (unit.Verb, error) {
	for _, v := range Verbs {
		if v.String() == word {
			return v, nil
		}
	}
	return 0, usage("cannot make a job of %.40q: the verbs are start, stop, restart, reload and scale", word)
}

// CheckUnit returns an error if name cannot be the name of a unit. "http.socket" names a
// socket.
func CheckUnit(name string) error {
	if name == "" {
		return usage("a unit must be named")
	}
	if !unit.IsName(strings.TrimSuffix(name, ".socket")) {
		return usage("%.80q cannot be the name of a unit: letters, digits, _ . and - only, at most 63, and a letter or digit first", name)
	}
	return nil
}

func (r *JobRequest) check() error {
	verb, err := ParseVerb(r.Verb)
	switch {
	case err != nil:
		return err
	case verb == unit.Scale && (r.Size < 1 || r.Size > MaxInstances):
		return usage("cannot scale to %d: there can be 1 to %d instances", r.Size, MaxInstances)
	case verb != unit.Scale && r.Size != 0:
		return usage("size is for scale only")
	}
	return CheckUnit(r.Unit)
}

func (r *UnitRequest) check() error { return CheckUnit(r.Unit) }

func (r *KillRequest) check() error {
	switch r.Whom {
	case unit.KillMain, unit.KillNext, unit.KillOld, unit.KillAll:
	default:
		return usage("cannot kill %.40q: whom is main, next, old or all", r.Whom)
	}
	if r.Signal < 1 || r.Signal > 64 {
		return usage("%d is no signal: they are 1 to 64", r.Signal)
	}
	return CheckUnit(r.Unit)
}

// maxPath is how long the path of a request may be that is sent to a process.
const maxPath = 1024

func (r *TryRequest) check() error {
	switch {
	case r.Whom != "" && r.Whom != unit.KillMain && r.Whom != unit.KillNext:
		return usage("cannot try %.40q: whom is main or next", r.Whom)
	case r.Instance != nil && (*r.Instance < 0 || *r.Instance >= MaxInstances):
		return usage("cannot try instance %d: there can be 0 to %d", *r.Instance, MaxInstances-1)
	case len(r.Address) > maxPath:
		return usage("an address has at most %d bytes", maxPath)
	}
	if err := CheckPath(r.Path); err != nil {
		return err
	}
	return CheckUnit(r.Unit)
}

// CheckPath returns an error if path cannot be asked of a web server as it is: it goes
// into the first line of a request.
func CheckPath(path string) error {
	printable := func(r rune) bool { return r > ' ' && r < 0x7f }
	switch {
	case len(path) > maxPath:
		return usage("a path has at most %d bytes", maxPath)
	case path != "" && path[0] != '/':
		return usage("%.80q is not a path: it begins with /", path)
	case strings.ContainsFunc(path, func(r rune) bool { return !printable(r) }):
		return usage("%.80q cannot be a path: write blanks and what is not ASCII as %%XX", path)
	}
	return nil
}

// eventID is how ids of events look: EPOCH-NUMBER.
var eventID = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([A-Za-z0-9]{1,64})-([0-9]{1,20})$`) })

func checkJob(id string) error {
	if n, err := strconv.ParseUint(id, 10, 64); err != nil || strconv.FormatUint(n, 10) != id {
		return usage("%.80q cannot be the id of a job: it is a number", id)
	}
	return nil
}

// requestHeader has the id of a request that changes something, so that it can be sent
// again when no answer has come.
const requestHeader = "Request-Id"

var requestID = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{32}$`) })

// checkRequest is for what a header says.
func checkRequest(ids []string) error {
	if len(ids) > 1 || len(ids) == 1 && !requestID().MatchString(ids[0]) {
		return usage("%s must be 32 lower-case hexadecimal digits, once", requestHeader)
	}
	return nil
}

var invocation = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([0-9a-f]{8,32})?$`) })

func (r *LogRequest) check() error {
	if r.N < 0 || r.N > MaxLines {
		return usage("cannot show the last %d lines: use 0 to %d", r.N, MaxLines)
	}
	if !invocation().MatchString(r.Invocation) {
		return usage("%.80q cannot be an invocation: write its 32 hexadecimal digits, or at least the first 8", r.Invocation)
	}
	for _, u := range r.Units {
		if err := CheckUnit(u); err != nil {
			return err
		}
	}
	return nil
}

// query is r as the query of a URL; parseLogRequest is the inverse.
func (r *LogRequest) query() url.Values {
	q := url.Values{"unit": r.Units, "n": {strconv.Itoa(r.N)}}
	if r.Follow {
		q.Set("follow", "true")
	}
	if r.Generation != 0 {
		q.Set("generation", strconv.FormatUint(uint64(r.Generation), 10))
	}
	if r.Invocation != "" {
		q.Set("invocation", r.Invocation)
	}
	for name, t := range map[string]time.Time{"since": r.Since, "until": r.Until} {
		if !t.IsZero() {
			q.Set(name, t.Format(time.RFC3339Nano))
		}
	}
	return q
}

// defaultLines is n where a request does not say.
const defaultLines = 100

func parseLogRequest(q url.Values) (*LogRequest, error) {
	r := &LogRequest{Units: q["unit"], N: defaultLines, Invocation: q.Get("invocation")}
	n, err := number(q, "n", MaxLines)
	if err != nil {
		return nil, err
	}
	if q.Has("n") {
		r.N = int(n)
	}
	if r.Follow, err = boolean(q, "follow"); err != nil {
		return nil, err
	}
	g, err := number(q, "generation", 1<<32-1)
	if err != nil {
		return nil, err
	}
	r.Generation = uint32(g)
	if r.Since, err = moment(q, "since"); err != nil {
		return nil, err
	}
	if r.Until, err = moment(q, "until"); err != nil {
		return nil, err
	}
	return r, r.check()
}

func moment(q url.Values, name string) (time.Time, error) {
	if !q.Has(name) {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, q.Get(name))
	if err != nil {
		return t, usage("%s=%.40q must be a time like 2006-01-02T15:04:05Z", name, q.Get(name))
	}
	return t, nil
}

func (r *HistoryRequest) check() error {
	if r.N < 1 || r.N > MaxRecords {
		return usage("cannot show the last %d records: use 1 to %d", r.N, MaxRecords)
	}
	for _, u := range r.Units {
		if err := CheckUnit(u); err != nil {
			return err
		}
	}
	return nil
}

// query is r as the query of a URL; parseHistoryRequest is the inverse.
func (r *HistoryRequest) query() url.Values {
	return url.Values{"unit": r.Units, "n": {strconv.Itoa(r.N)}}
}

// defaultRecords is n where a request does not say.
const defaultRecords = 50

func parseHistoryRequest(q url.Values) (*HistoryRequest, error) {
	r := &HistoryRequest{Units: q["unit"], N: defaultRecords}
	n, err := number(q, "n", MaxRecords)
	if err != nil {
		return nil, err
	}
	if q.Has("n") {
		r.N = int(n)
	}
	return r, r.check()
}

func number(q url.Values, name string, most uint64) (uint64, error) {
	if !q.Has(name) {
		return 0, nil
	}
	n, err := strconv.ParseUint(q.Get(name), 10, 64)
	if err != nil || n > most {
		return 0, usage("%s=%.40q must be a number from 0 to %d", name, q.Get(name), most)
	}
	return n, nil
}

func boolean(q url.Values, name string) (bool, error) {
	switch q.Get(name) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, usage("%s=%.40q must be true or false", name, q.Get(name))
}

// only refuses a query with parameters that the route does not know, and those
// given twice that may not be.
func only(q url.Values, names ...string) error {
	known := map[string]bool{}
	for _, n := range names {
		known[n] = true
	}
	for name, values := range q {
		switch {
		case !known[name]:
			return usage("no parameter is called %.40q here", name)
		case len(values) > 1 && name != "unit":
			return usage("parameter %q is there twice", name)
		}
	}
	return nil
}

func usage(format string, args ...any) *Error {
	return &Error{Code: Usage, Message: fmt.Sprintf(format, args...)}
}
