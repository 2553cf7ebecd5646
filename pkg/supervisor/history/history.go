// Package history keeps records of what happened, over restarts and reboots: in
// a file with one JSON object a line, and in the one before it.
//
// These are its rules:
//
//   - Who adds a record waits for no disk. One goroutine writes what has come
//     together since it last did, with one fsync.
//   - Memory and disk are bounded. What could not be written is tried again;
//     records that find no room meanwhile are dropped and counted, and their
//     number is a record too.
//   - The file is opened, and judged, anew for each batch. So it may be deleted
//     or moved away at any time, and nothing is kept open that is not used.
//   - A line that is no record, such as half of one that a power failure left, is
//     passed over and counted by readers, and costs no other line.
package history

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
)

const (
	// Name is the file's; that of the one before it is Name + ".1".
	Name = "history.jsonl"
	// KindLost is the kind of record that says how many are missing before it.
	KindLost = "lost"

	maxFile    = 1 << 20   // bytes; a file that would have more is rotated
	maxPending = 512 << 10 // bytes that wait to be written; a file has room for them
	maxRecord  = 64 << 10  // bytes
	maxText    = 512       // bytes of one text in a record

	// retryAfter is how long what could not be written waits for another try.
	retryAfter = 10 * time.Second
)

// A Log is the history in a directory. It is safe for use by several goroutines.
type Log struct {
	dir   *safepath.Dir
	fault func(error)

	disk sync.Mutex // held while a batch is written, and while readers open the files

	mu      sync.Mutex // nobody who has it waits for a disk
	pending []byte     // records, each a line, that wait
	batch   []byte     // and those that are being written, or could not be
	lost    uint64     // records that found no room, of which no record tells yet
	err     error      // why batch could not be written; nil: nothing is wrong

	dirty chan struct{} // has room for one: something waits
	quit  chan struct{}
	done  chan struct{}
}

// Open begins a history in dir, or goes on with the one that is there. dir must
// stay open until [Log.Close] has returned. fault is told why records cannot be
// written, once until they can be again, and what was found damaged; it is called
// by the goroutine that writes.
func Open(dir *safepath.Dir, fault func(error)) *Log {
	l := &Log{dir: dir, fault: fault, dirty: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	go l.run()
	return l
}

// Add adds a record: a JSON object in one line, with its newline. It does not
// wait. A record that is longer than 64 KiB, or that memory has no room for, is
// dropped and counted.
func (l *Log) Add(record []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(record) > maxRecord || len(l.batch)+len(l.pending)+len(record) > maxPending {
		l.lost++
	} else {
		l.pending = append(l.pending, record...)
	}
	select {
	case l.dirty <- struct{}{}:
	default:
	}
}

// Err is why records cannot be written at present; nil: they can.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Close writes what waits, if it can be written, and ends the history.
func (l *Log) Close() {
	close(l.quit)
	<-l.done
}

func (l *Log) run() {
	defer close(l.done)
	var retry <-chan time.Time // not nil: the last batch could not be written
	for {
		dirty := l.dirty
		if retry != nil {
			dirty = nil
		}
		select {
		case <-dirty:
		case <-retry:
		case <-l.quit:
			l.flush()
			return
		}
		retry = nil
		if l.flush() != nil {
			retry = time.After(retryAfter)
		}
	}
}

// flush writes all that waits. What it cannot write waits on.
func (l *Log) flush() error {
	l.disk.Lock()
	defer l.disk.Unlock()
	l.mu.Lock()
	l.batch, l.pending = append(l.batch, l.pending...), nil
	lost, before := l.lost, l.err
	text := append(slices.Clip(l.batch), lostRecord(lost)...)
	l.mu.Unlock()
	if len(text) == 0 {
		return nil
	}
	err := l.write(text)
	l.mu.Lock()
	if l.err = err; err == nil {
		l.batch = nil
		l.lost -= lost
	}
	l.mu.Unlock()
	if err != nil && before == nil {
		l.fault(err)
	}
	return err
}

// lostRecord says that n records are missing; it is nothing if none are.
func lostRecord(n uint64) []byte {
	if n == 0 {
		return nil
	}
	text, err := json.Marshal(struct {
		Kind string    `json:"kind"`
		Time time.Time `json:"time"`
		Lost uint64    `json:"lost"`
	}{KindLost, time.Now(), n})
	if err != nil {
		panic(err) // a time of our own clock has a form in JSON
	}
	return append(text, '\n')
}

// Cut shortens what is too long for one text of a record. It cuts between two
// runes, and marks that it did.
func Cut(text string) string {
	if len(text) <= maxText {
		return text
	}
	end := 0
	for i := range text {
		if i > maxText {
			break
		}
		end = i
	}
	return fmt.Sprintf("%s… (%d bytes more)", text[:end], len(text)-end)
}
