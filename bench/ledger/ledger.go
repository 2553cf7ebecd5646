// Package ledger is the record that the bench's workers keep of themselves: one
// line when one of them is ready, one when it leaves. It is one file, written by
// many processes and read when they are gone, so that how each of them ended is
// their own word and not a guess of who started them.
package ledger

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
)

// What a worker can say of itself.
const (
	Began = "began" // its program runs
	Ready = "ready" // it said READY=1
	Left  = "left"  // its own Shutdown returned: it held no connection then
	Died  = "died"  // it is about to exit without any care, as its build is to

	// An accept failed although nobody had told it to leave, or it had not come to that
	// yet.
	AcceptFailed = "accept failed"
)

// An Entry is one line.
type Entry struct {
	PID      int              `json:"pid"`
	Build    string           `json:"build"`
	Event    string           `json:"event"`
	Answered int64            `json:"answered,omitempty"` // requests, since it began
	Open     map[string]int64 `json:"open,omitempty"`     // connections that end with it, by socket: each can cost one request
	Waiting  map[string]int64 `json:"waiting,omitempty"`  // connections that it has not accepted, by socket: none may cost one
	Error    string           `json:"error,omitempty"`    // what Shutdown returned, or an accept
}

// Append adds one line to the file. The kernel keeps lines whole: each is one
// write to a file opened with O_APPEND.
func Append(path string, e Entry) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	line, err := json.Marshal(e)
	if err == nil {
		_, err = f.Write(append(line, '\n'))
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// Read returns all lines. A file that is not there has none.
func Read(path string) ([]Entry, error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var entries []Entry
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var e Entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("cannot read ledger line %d: %w", len(entries)+1, err)
		}
		entries = append(entries, e)
	}
	return entries, lines.Err()
}
