package keeper

import (
	"encoding/binary"
	"strconv"
	"syscall"
)

// Wire is the number of the messages, of the table and of the programs of starts.
// A change of one of them adds one; testdata/wire.golden tells when that is due. A manager
// speaks its own and the one before.
const Wire = 1

// A verb is what a message means.
type verb byte

// What a manager asks. Each but pong gets one done, with the number of its question,
// and before it the entries that it asked for. Until it was told to go, a manager may
// ask for the list, and say that it is up.
const (
	_          verb = iota
	askPut          // key meta, files: keep them
	askDrop         // key: close them; of a process that has ended: reap it
	askList         // every entry
	askSpawn        // key meta control cgroup file..., files: a child that waits for programs
	askAdopt        // key meta pid, its pidfd: a process that is not the keeper's child
	askTell         // text, files: to systemd
	askUp           // I can read all that there is
	askServing      // I have taken over
	askHeard        // signal serial: its effect is stored
	askPong         // I am well. The number is that of the ping, and there is no done
	askExit         // status: when I have ended, end too
	askUpgrade      // path: start a manager from there beside the one that asks
	askReexec       // path: execute that in your place; all children stay
)

const firstSaid = 64

// What the keeper says.
const (
	sayHello  verb = iota + firstSaid // wire code pid limit score: the first word to each manager
	sayDone                           // errno; 0 is success
	sayEntry                          // key meta state pid foreign base first limit status, files
	sayEnded                          // key status: how its process has ended
	saySignal                         // signal serial: somebody sent it to supervisord
	sayPing                           // are you well?
	sayGo                             // managers pid status why: you are the one; how the one before has ended
	sayLeave                          // another manager is up: store what you know, and go
)

// verbs is what each has.
var verbs = map[verb]struct {
	name   string
	fields int
	more   bool // there may be more fields
	files  int  // at most
}{
	askPut:     {"put", 2, false, MaxFiles},
	askDrop:    {"drop", 1, false, 0},
	askList:    {"list", 0, false, 0},
	askSpawn:   {"spawn", 4, true, MaxFiles},
	askAdopt:   {"adopt", 3, false, 1},
	askTell:    {"tell", 1, false, MaxFiles},
	askUp:      {"up", 0, false, 0},
	askServing: {"serving", 0, false, 0},
	askHeard:   {"heard", 2, false, 0},
	askPong:    {"pong", 0, false, 0},
	askExit:    {"exit", 1, false, 0},
	askUpgrade: {"upgrade", 1, false, 0},
	askReexec:  {"reexec", 1, false, 0},

	sayHello:  {"hello", 5, false, 0},
	sayDone:   {"done", 1, false, 0},
	sayEntry:  {"entry", 9, false, MaxFiles},
	sayEnded:  {"ended", 2, false, 0},
	saySignal: {"signal", 2, false, 0},
	sayPing:   {"ping", 0, false, 0},
	sayGo:     {"go", 4, false, 0},
	sayLeave:  {"leave", 0, false, 0},
}

func (v verb) asks() bool { return v < firstSaid }

// A message is one packet of the line: a verb, a number, fields, and files beside them.
type message struct {
	verb   verb
	number uint32
	fields []string
	files  []int
}

// Bounds of a message. What is long goes elsewhere: a program has its own socket.
const (
	maxMessage = 128 << 10
	MaxFiles   = 250 // SCM_MAX_FD is 253
	maxKey     = 255
	maxMeta    = 64 << 10
)

// errBroken is of a message that is none.
const errBroken = syscall.EBADMSG

const head = 5 // the bytes before the fields

// encode is the verb, the number, and each field behind its length.
func (m *message) encode() []byte {
	b := make([]byte, 0, 256)
	b = append(b, byte(m.verb))
	b = binary.LittleEndian.AppendUint32(b, m.number)
	for _, f := range m.fields {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

// decode is the reverse. Its message has as many fields as its verb, each a copy.
func decode(b []byte) (m message, err error) {
	if len(b) < head {
		return message{}, errBroken
	}
	m.verb, m.number = verb(b[0]), binary.LittleEndian.Uint32(b[1:])
	v, known := verbs[m.verb]
	if !known {
		return message{}, errBroken
	}
	for b = b[head:]; len(b) > 0; {
		var f string
		if f, b, err = field(b); err != nil {
			return message{}, err
		}
		m.fields = append(m.fields, f)
	}
	if len(m.fields) < v.fields || len(m.fields) > v.fields && !v.more {
		return message{}, errBroken
	}
	return m, nil
}

func field(b []byte) (f string, rest []byte, err error) {
	const size = 4
	if len(b) < size {
		return "", nil, errBroken
	}
	n := binary.LittleEndian.Uint32(b)
	if b = b[size:]; uint64(n) > uint64(len(b)) {
		return "", nil, errBroken
	}
	return string(b[:n]), b[n:], nil
}

// decimal is a number as it is in a field.
func decimal[T ~int | ~uint8 | ~uint32 | ~uint64 | ~uintptr](n T) string {
	if n < 0 {
		return strconv.FormatInt(int64(n), 10)
	}
	return strconv.FormatUint(uint64(n), 10)
}

// A reading is a message whose fields are read one by one. What cannot be read is
// remembered.
type reading struct {
	fields []string
	broken bool
}

func (m *message) read() *reading { return &reading{fields: m.fields} }

func (r *reading) text() string {
	if len(r.fields) == 0 {
		r.broken = true
		return ""
	}
	f := r.fields[0]
	r.fields = r.fields[1:]
	return f
}

func (r *reading) number(bits int) int {
	n, err := strconv.ParseInt(r.text(), 10, bits)
	r.broken = r.broken || err != nil
	return int(n)
}

func (r *reading) unsigned(bits int) uint64 {
	n, err := strconv.ParseUint(r.text(), 10, bits)
	r.broken = r.broken || err != nil
	return n
}

func (r *reading) err() error {
	if r.broken {
		return errBroken
	}
	return nil
}
