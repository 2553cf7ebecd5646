package ipc

import "net/http"

// Code says what kind of error it is, for programs.
type Code string

const (
	Usage       Code = "usage"
	NoSuchUnit  Code = "no-such-unit"
	NoSuchJob   Code = "no-such-job"
	NotActive   Code = "not-active"
	Refused     Code = "refused"
	Failed      Code = "failed"
	Down        Code = "down"
	Canceled    Code = "canceled"
	Invalid     Code = "invalid"
	Denied      Code = "denied"
	Ending      Code = "ending"
	Unreachable Code = "unreachable" // the client's own
	TimedOut    Code = "timed-out"   // the client's own
	Outdated    Code = "outdated"    // the client's own
	Internal    Code = "internal"
)

// A Meaning is what a code is to a person, to the HTTP client and to the shell.
type Meaning struct {
	Code Code
	HTTP int // status of the answer; 0: no answer has this code
	Exit int // status of superctl
	Text string
}

// Codes is every code there is.
var Codes = []Meaning{
	{Usage, http.StatusBadRequest, 2, "the request makes no sense"},
	{NoSuchUnit, http.StatusNotFound, 4, "no such unit"},
	{NoSuchJob, http.StatusNotFound, 1, "no job has this id, or it ended too long ago"},
	{NotActive, http.StatusConflict, 3, "the service would have to run, and does not"},
	{Refused, http.StatusConflict, 1, "not now; nothing was touched"},
	{Failed, http.StatusConflict, 1, "it failed, and what ran before still runs"},
	{Down, http.StatusConflict, 3, "it failed, and now nothing serves"},
	{Canceled, http.StatusConflict, 1, "superseded by a later request"},
	{Invalid, http.StatusUnprocessableEntity, 1, "the configuration is wrong; the one before stays loaded"},
	{Denied, http.StatusForbidden, 6, "not permitted"},
	{Ending, http.StatusServiceUnavailable, 5, "supervisord is stopping"},
	{Unreachable, 0, 5, "no supervisord answers"},
	{TimedOut, 0, 7, "stopped waiting; the job continues"},
	{Outdated, 0, 1, "supervisord is of another version, and does not know the request"},
	{Internal, http.StatusInternalServerError, 1, "a bug in supervisord, or the system failed it"},
}

// Meaning is that of Internal for a code that is not known: a newer server's.
func (c Code) Meaning() Meaning {
	last := Codes[len(Codes)-1]
	for _, m := range Codes {
		if m.Code == c {
			return m
		}
	}
	return last
}

// Error says why, what still holds, and what to do next.
type Error struct {
	Code    Code     `json:"code"`
	Message string   `json:"message"` // "cannot reload api: …"
	Notes   []string `json:"notes,omitempty"`
	Hints   []string `json:"hints,omitempty"`
	Output  []string `json:"output,omitempty"` // the last lines of the process that failed
}

func (e *Error) Error() string { return e.Message }
