// Package store keeps what must survive supervisord itself: a value for each
// service, as JSON, in the runtime directory.
//
// A value is written to a file of its own and renamed into place, so a reader
// finds the old one or the new one and never a part, wherever the writer was
// killed. Nothing is synced to disk: the store outlives the process, not the
// machine, and a value of another boot is not read.
//
// One supervisord at a time owns the directory, by flock(2). When somebody removes
// it, it is made again (see mend.go), so values are kept in memory as well. At most eight
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

	operations  = 8
	runtimeMode = 0o711
	suffix      = ".json"
	temporary   = ".tmp"
	aside       = ".aside"
)

// A key becomes a file name: no path, no option, nothing hidden.
var keys = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.@-]{0,199}$`) })

// A Store is an open runtime directory. It is safe for use by several
// goroutines; two that put the same key at once must not care which is last.
type Store struct {
	runtime  *safepath.Dir
	identity safepath.Identity // of runtime
	state    *safepath.Dir     // one of subs
	guard    *guard
	slots    chan struct{}
	mending  chan struct{} // has room for one
	writes   atomic.Uint64 // names of temporary files
	boot     string
	watch    atomic.Pointer[watch]
	lost     atomic.Pointer[func()]

	mu    sync.Mutex // guards what follows; nothing waits under it
	lock  *safepath.Lock
	subs  []sub
	texts map[string][]byte // what the files of the keys hold

	owners map[string]*owner // of keys that are being written
}

// Open makes the runtime directory (0711) and its state directory (0700) if
// they are missing, and locks them for this process until [Store.Close]. The
// error is a [*LockedError] if another supervisord has it, or a
// [*safepath.Error] if others could change what is in it.
func Open(runtimeDir string) (*Store, error) {
	s := &Store{slots: make(chan struct{}, operations), mending: make(chan struct{}, 1), boot: bootID(), texts: map[string][]byte{}, owners: map[string]*owner{}}
	if err := s.open(runtimeDir); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) open(path string) (err error) {
	if s.runtime, err = safepath.MakeDir(path, runtimeMode); err != nil {
		return err
	}
	if s.identity, err = s.runtime.Identity(); err != nil {
		return err
	}
	if s.lock, err = lock(s.runtime); err != nil {
		return err
	}
	if s.guard, err = newGuard(s.runtime.Path()); err != nil {
		return err
	}
	if s.state, err = s.sub("state", 0o700); err != nil {
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

// Runtime is the runtime directory. It belongs to the store. It is another one
// after the first was removed.
func (s *Store) Runtime() *safepath.Dir { return s.runtime }

// Close gives the directory to the next supervisord. No other call may be in
// progress. What was put stays.
func (s *Store) Close() (err error) {
	for _, x := range s.subs {
		err = errors.Join(err, x.dir.Close())
	}
	if s.runtime != nil {
		err = errors.Join(err, s.runtime.Close())
	}
	s.guard.close()
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

func (s *Store) write(key string, text []byte) (err error) {
	defer s.turn()()
	for range 3 { // the directory can be removed between two looks at it
		if err = s.whole(); err == nil {
			err = s.put(key, text)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return err
}

func (s *Store) put(key string, text []byte) error {
	defer s.own(key)()
	err := s.create(key, text, s.state.Rename)
	if err == nil {
		s.remember(key, text)
	}
	return err
}

// create writes the file of a key, and gives it its name by rename.
func (s *Store) create(key string, text []byte, rename func(old, new string) error) error {
	name := fmt.Sprintf(".%s.%d%s", key, s.writes.Add(1), temporary)
	f, err := s.state.Open(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = rename(name, key+suffix)
	}
	if err != nil {
		s.state.Remove(name)
		return err
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
	s.recall(key, text)
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
	defer s.own(key)()
	s.forget(key)
	return s.state.Rename(key+suffix, key+aside)
}

// Delete removes the value of a key, if there is one.
func (s *Store) Delete(key string) error {
	if !keys().MatchString(key) {
		return fmt.Errorf("cannot delete %s: %w: not a key", key, fs.ErrInvalid)
	}
	defer s.turn()()
	defer s.own(key)()
	s.forget(key)
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
