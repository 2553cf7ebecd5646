// Package store keeps what must survive supervisord itself: a value for each
// service, as JSON, in the runtime directory.
//
// A value is written to a file of its own and renamed into place, so a reader
// finds the old one or the new one and never a part, wherever the writer was
// killed. Nothing is synced to disk: the store outlives the process, not the
// machine, and a value of another boot is not read.
//
// One supervisord at a time owns the directory, by flock(2). At most eight
// file operations run at once, so a thousand services that change together do
// not become a thousand threads in a slow file system.
package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
)

const (
	// MaxSize is how many bytes a stored value may have.
	MaxSize = 64 << 20

	operations = 8
	suffix     = ".json"
	temporary  = ".tmp"
	aside      = ".aside"
)

// A key becomes a file name: no path, no option, nothing hidden.
var keys = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.@-]{0,199}$`) })

// A Store is an open runtime directory. It is safe for use by several
// goroutines; two that put the same key at once must not care which is last.
type Store struct {
	runtime *safepath.Dir
	state   *safepath.Dir
	lock    *safepath.Lock
	slots   chan struct{}
	writes  atomic.Uint64 // names of temporary files
	boot    string
}

// Open makes the runtime directory (0711) and its state directory (0700) if
// they are missing, and locks them for this process until [Store.Close]. The
// error is a [*LockedError] if another supervisord has it, or a
// [*safepath.Error] if others could change what is in it.
func Open(runtimeDir string) (*Store, error) {
	s := &Store{slots: make(chan struct{}, operations), boot: bootID()}
	if err := s.open(runtimeDir); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) open(path string) (err error) {
	if s.runtime, err = safepath.MakeDir(path, 0o711); err != nil {
		return err
	}
	if s.lock, err = lock(s.runtime); err != nil {
		return err
	}
	if s.state, err = s.runtime.Sub("state", 0o700); err != nil {
		return err
	}
	return s.sweep()
}

// sweep removes what a writer that was killed left half done.
func (s *Store) sweep() error {
	names, err := s.state.Names()
	for _, name := range names {
		if strings.HasSuffix(name, temporary) {
			err = errors.Join(err, s.state.Remove(name))
		}
	}
	return err
}

// Runtime is the runtime directory. It belongs to the store.
func (s *Store) Runtime() *safepath.Dir { return s.runtime }

// Close gives the directory to the next supervisord. No other call may be in
// progress. What was put stays.
func (s *Store) Close() (err error) {
	for _, d := range []*safepath.Dir{s.state, s.runtime} {
		if d != nil {
			err = errors.Join(err, d.Close())
		}
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Unlock())
	}
	return err
}

// A record is what a file holds.
type record struct {
	Boot  string          `json:"boot"` // boot_id(4): pids of another boot mean nothing
	Value json.RawMessage `json:"value"`
}

// Put stores a value in place of the one with the same key. After an error the
// old value is still there.
func (s *Store) Put(key string, v any) error {
	text, err := s.encode(key, v)
	if err == nil {
		err = s.write(key, text)
	}
	if err != nil {
		return fmt.Errorf("cannot store %s: %w", key, err)
	}
	return nil
}

func (s *Store) encode(key string, v any) ([]byte, error) {
	if !keys().MatchString(key) {
		return nil, fmt.Errorf("%w: not a key", fs.ErrInvalid)
	}
	value, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	// A record, but Marshal would read the value a second time.
	text := fmt.Appendf(nil, `{"boot":%q,"value":%s}`, s.boot, value)
	if len(text) > MaxSize {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(text), MaxSize)
	}
	return text, nil
}

func (s *Store) write(key string, text []byte) error {
	defer s.turn()()
	name := fmt.Sprintf(".%s.%d%s", key, s.writes.Add(1), temporary)
	f, err := s.state.Open(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = s.state.Rename(name, key+suffix)
	}
	if err != nil {
		return errors.Join(err, s.state.Remove(name))
	}
	return nil
}

// Get reads the value of a key into v. The error wraps [fs.ErrNotExist] if
// there is none, and is a [*RefusedError] if there is one that must not be
// believed; [Store.SetAside] is for that.
func (s *Store) Get(key string, v any) error {
	if !keys().MatchString(key) {
		return fmt.Errorf("cannot read %s: %w: not a key", key, fs.ErrInvalid)
	}
	text, err := s.read(key)
	if err != nil {
		return err
	}
	var r record
	if err := decode(text, &r); err != nil {
		return &RefusedError{Key: key, Why: err.Error()}
	}
	if r.Boot != s.boot {
		return &RefusedError{Key: key, Why: "it is from before the last reboot"}
	}
	if err := json.Unmarshal(r.Value, v); err != nil {
		return &RefusedError{Key: key, Why: err.Error()}
	}
	return nil
}

// SetAside keeps the file of a key under another name, for people to look at,
// so that the key has no value any more. An earlier one that was set aside is
// replaced.
func (s *Store) SetAside(key string) error {
	if !keys().MatchString(key) {
		return fmt.Errorf("cannot set %s aside: %w: not a key", key, fs.ErrInvalid)
	}
	defer s.turn()()
	return s.state.Rename(key+suffix, key+aside)
}

// Delete removes the value of a key, if there is one.
func (s *Store) Delete(key string) error {
	if !keys().MatchString(key) {
		return fmt.Errorf("cannot delete %s: %w: not a key", key, fs.ErrInvalid)
	}
	defer s.turn()()
	if err := s.state.Remove(key + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Keys lists the keys that have a file, whether or not it can be believed.
func (s *Store) Keys() ([]string, error) {
	defer s.turn()()
	names, err := s.state.Names()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, name := range names {
		if key, ok := strings.CutSuffix(name, suffix); ok && keys().MatchString(key) {
			found = append(found, key)
		}
	}
	return found, nil
}

// turn waits for one of the slots and returns how to give it back.
func (s *Store) turn() (done func()) {
	s.slots <- struct{}{}
	return func() { <-s.slots }
}
