package notify

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// MaxMessage is the length of the longest datagram that is read (systemd's
// NOTIFY_BUFFER_MAX). No field can be longer, STATUS= included.
const MaxMessage = 4096

// A Message is what one datagram said, and who sent it.
type Message struct {
	PID int    // of the sender, as the kernel tells; it may be gone by now
	UID uint32 // its real user

	Notice    unit.Notice
	Status    *string  // STATUS=, UTF-8; empty clears it; nil: not said
	Errno     *int     // ERRNO=, 0 to 4095; nil: not said
	Reloading bool     // RELOADING=1; a READY=1 in a later message ends it
	Barrier   bool     // BARRIER=1, and nothing else; never delivered
	Fields    int      // how many fields were known
	Later     []string // of those, what systemd has and this version does not act on
}

// lasts: it changes the state of a service, so it must be stored before it is gone.
func (m Message) lasts() bool {
	n := m.Notice
	return n.Ready || n.Stopping || n.Extend != 0 || m.Reloading || m.Errno != nil ||
		slices.ContainsFunc(m.Later, func(key string) bool { return lasting[key] })
}

// lasting are the fields that this version does not act on, as far as they change the
// state of a service.
var lasting = map[string]bool{
	"MAINPID": true, "MAINPIDFDID": true, "MAINPIDFD": true, "FDSTORE": true, "FDSTOREREMOVE": true,
}

// A refusal says why a datagram was dropped, in words for people.
type refusal string

func (r refusal) Error() string { return string(r) }

const (
	tooLong     refusal = "it is longer than 4096 bytes"
	empty       refusal = "it is empty"
	hasNUL      refusal = "it has a NUL byte in it"
	mixed       refusal = "BARRIER=1 must be alone"
	wantsOneFD  refusal = "BARRIER=1 needs exactly one file descriptor"
	cutControl  refusal = "its file descriptors could not all be received"
	anonymous   refusal = "its sender is unknown"
	nobodyMay   refusal = "notify_access is none"
	foreignUser refusal = "its sender is another user"
	notMember   refusal = "its sender is another user, and not a process of this service"
	senderGone  refusal = "its sender, another user, has ended before anybody could see whether it belongs to this service"
	notMain     refusal = "its sender is not the main process, and notify_access is main"
	cannotClose refusal = "file descriptors that came with it cannot be closed"
)

// A take puts the value of a field into a message. What it cannot read it
// leaves out: a wrong value is as if it had not been said.
type take func(m *Message, value string)

// fields are those that systemd 261 knows. Nil: later.
var fields = map[string]take{
	"READY":               func(m *Message, v string) { m.Notice.Ready = v == "1" },
	"STOPPING":            func(m *Message, v string) { m.Notice.Stopping = v == "1" },
	"RELOADING":           func(m *Message, v string) { m.Reloading = v == "1" },
	"MONOTONIC_USEC":      func(*Message, string) {}, // comes with RELOADING=1; matters to type notify-reload only
	"STATUS":              takeStatus,
	"ERRNO":               takeErrno,
	"WATCHDOG":            func(m *Message, v string) { m.Notice.Ping, m.Notice.Trigger = v == "1", v == "trigger" },
	"EXTEND_TIMEOUT_USEC": func(m *Message, v string) { m.Notice.Extend = duration(v) },

	"MAINPID": nil, "MAINPIDFDID": nil, "MAINPIDFD": nil,
	"FDSTORE": nil, "FDSTOREREMOVE": nil, "FDNAME": nil, "FDPOLL": nil,
	"WATCHDOG_USEC": nil, "NOTIFYACCESS": nil, "RESTART_RESET": nil,
	"BUSERROR": nil, "VARLINKERROR": nil, "EXIT_STATUS": nil,
}

// Parse reads one datagram as systemd does: assignments, one a line, names
// exact; of several with one name the first counts; unknown names are nothing.
// STOPPING=1 overrules READY=1 and RELOADING=1 beside it, and READY=1 beside
// RELOADING=1 says that the reload is over. The error says why the whole
// datagram is to be dropped.
func Parse(b []byte) (Message, error) {
	lines, err := split(b)
	if err != nil {
		return Message{}, err
	}
	var m Message
	for i, line := range lines {
		if line == "BARRIER=1" && len(lines) > 1 {
			return Message{}, mixed
		}
		key, value, ok := strings.Cut(line, "=")
		if ok && !said(lines[:i], key) {
			m.set(key, value)
		}
	}
	m.settle()
	return m, nil
}

// split refuses what is no text, and leaves out lines without any.
func split(b []byte) (lines []string, err error) {
	switch {
	case len(b) > MaxMessage:
		return nil, tooLong
	case len(bytes.TrimSuffix(b, []byte{0})) == 0:
		return nil, empty
	}
	text := string(bytes.TrimSuffix(b, []byte{0}))
	if strings.ContainsRune(text, 0) {
		return nil, hasNUL
	}
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' }), nil
}

func said(lines []string, key string) bool {
	for _, l := range lines {
		if len(l) > len(key) && l[len(key)] == '=' && l[:len(key)] == key {
			return true
		}
	}
	return false
}

func (m *Message) set(key, value string) {
	if key == "BARRIER" && value == "1" {
		m.Barrier = true
		m.Fields++
		return
	}
	take, known := fields[key]
	if !known {
		return
	}
	m.Fields++
	if take == nil {
		m.Later = append(m.Later, key)
		return
	}
	take(m, value)
}

func (m *Message) settle() {
	if m.Notice.Stopping {
		m.Notice.Ready, m.Reloading = false, false
	}
	if m.Notice.Ready {
		m.Reloading = false
	}
}

func takeStatus(m *Message, v string) {
	if utf8.ValidString(v) {
		m.Status = &v
	}
}

// maxErrno is the largest number that Linux can return as an error.
const maxErrno = 4095

// takeErrno takes a number or a name such as EINVAL.
func takeErrno(m *Message, v string) {
	if n, err := strconv.ParseUint(v, 10, 64); err == nil {
		if n <= maxErrno {
			m.Errno = new(int(n))
		}
		return
	}
	for n := 1; n < 256 && strings.HasPrefix(v, "E"); n++ {
		if unix.ErrnoName(unix.Errno(n)) == v {
			m.Errno = &n
			return
		}
	}
}

// duration reads microseconds. What is too large for a duration is infinity;
// zero and what systemd takes for infinity (2^64-1) or for no number say nothing.
func duration(v string) time.Duration {
	us, err := strconv.ParseUint(v, 10, 64)
	switch {
	case err != nil || us == math.MaxUint64:
		return 0
	case us > uint64(unit.Infinity/time.Microsecond):
		return unit.Infinity
	}
	return time.Duration(us) * time.Microsecond
}
