package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
)

// Cleaners remove what is in a runtime directory, logind removes that of a user who
// has logged out, people remove it by mistake. A supervisord that goes on without
// it could start nothing and be reached by nobody. So each use looks whether all is
// where it was, which takes a few calls to the kernel, and makes again what is not:
// the directory and those in it, the lock, and every value that was put.

// A sub is a directory in the runtime directory.
type sub struct {
	name     string
	mode     os.FileMode
	dir      *safepath.Dir
	identity safepath.Identity
}

// Sub is the directory of this name in the runtime directory. It is made if it is
// missing, also when it was there before: whoever has it works in the new one then.
// It belongs to the store, and is the same one each time.
func (s *Store) Sub(name string, mode os.FileMode) (*safepath.Dir, error) {
	defer s.turn()()
	if err := s.whole(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sub(name, mode)
}

// sub needs s.mu.
func (s *Store) sub(name string, mode os.FileMode) (*safepath.Dir, error) {
	for _, x := range s.subs {
		if x.name == name {
			return x.dir, nil
		}
	}
	d, err := s.runtime.Sub(name, mode)
	if err != nil {
		return nil, err
	}
	identity, err := d.Identity()
	if err != nil {
		d.Close()
		return nil, err
	}
	s.subs = append(s.subs, sub{name, mode, d, identity})
	return d, nil
}

// Mend makes again what somebody has removed, single values included. The error
// is a [*LockedError] if another supervisord has made the directory its own
// meanwhile: then nothing is done in it for as long as that is so.
func (s *Store) Mend() error {
	defer s.turn()()
	s.guard.hangUp()
	if err := s.whole(); err != nil {
		return err
	}
	return s.rewrite()
}

// whole makes again what is missing of directories and lock, with the values.
func (s *Store) whole() error {
	if s.isWhole() {
		return nil
	}
	remade, err := s.remake()
	if lost := s.lost.Load(); remade && lost != nil {
		(*lost)() // the store is not all that was there
	}
	return err
}

// inIt lists the directories in the runtime directory.
func (s *Store) inIt() []sub {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.subs
}

func (s *Store) isWhole() bool {
	s.mu.Lock()
	lock, subs := s.lock, s.subs
	s.mu.Unlock()
	return s.runtime.IsCurrent() && lock.IsIn(s.runtime) &&
		!slices.ContainsFunc(subs, func(x sub) bool { return !s.runtime.Has(x.name, x.dir) })
}

// remake says whether it made anything. One at a time does it, and the others wait
// for the outcome.
func (s *Store) remake() (remade bool, err error) {
	s.mending <- struct{}{}
	defer func() { <-s.mending }()
	for range 3 { // it can be removed again meanwhile, though hardly for ever
		if s.isWhole() {
			return remade, nil
		}
		if err = s.remakeOnce(); err == nil {
			remade, err = true, s.rewrite()
		}
		s.arm()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return remade, err
}

func (s *Store) remakeOnce() error {
	fresh, err := s.reopen()
	if err != nil {
		return err
	}
	if !s.lock.IsIn(fresh) {
		l, err := lock(fresh)
		if err != nil {
			fresh.Close()
			return err
		}
		s.mu.Lock()
		s.lock, l = l, s.lock
		s.mu.Unlock()
		l.Unlock()
	}
	if err := s.runtime.Become(fresh); err != nil {
		return err
	}
	return s.remakeSubs()
}

// reopen opens what the path leads to now. If that is nothing, it makes what was
// there before; what others have made is judged as at the start.
func (s *Store) reopen() (*safepath.Dir, error) {
	path := s.runtime.Path()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return safepath.MakeDir(path, runtimeMode)
	}
	d, err := safepath.MakeDir(path, runtimeMode)
	if err != nil {
		return nil, err
	}
	if err := d.Assume(s.identity); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (s *Store) remakeSubs() error {
	for _, x := range s.inIt() {
		if s.runtime.Has(x.name, x.dir) {
			continue
		}
		d, err := s.runtime.Sub(x.name, x.mode)
		if err != nil {
			return err
		}
		if names, err := d.Names(); err == nil && len(names) == 0 {
			if err := d.Assume(x.identity); err != nil {
				d.Close()
				return err
			}
		}
		if err := x.dir.Become(d); err != nil {
			return err
		}
	}
	return nil
}

// recall is remember for who has read the file, and may have been overtaken.
func (s *Store) recall(key string, text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.texts[key]; !known {
		s.texts[key] = text
	}
}

// remember keeps what a key's file holds, so that it can be written again.
func (s *Store) remember(key string, text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts[key] = text
}

func (s *Store) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.texts, key)
}

func (s *Store) remembered(key string) (text []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, ok = s.texts[key]
	return text, ok
}

// rewrite writes all values whose file is missing.
func (s *Store) rewrite() error {
	names, err := s.state.Names()
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, name := range names {
		there[name] = true
	}
	for _, key := range s.keysInMemory() {
		if there[key+suffix] {
			continue
		}
		if err := s.writeAgain(key); err != nil {
			return fmt.Errorf("cannot store %s again: %w", key, err)
		}
	}
	return nil
}

func (s *Store) keysInMemory() (keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.texts {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// writeAgain gives way to a Put of the same key, and to a Delete.
func (s *Store) writeAgain(key string) error {
	defer s.own(key)()
	text, ok := s.remembered(key)
	if !ok {
		return nil
	}
	if err := s.create(key, text, s.state.RenameNew); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// An owner changes the file of a key together with what is remembered of it.
type owner struct {
	turn  chan struct{} // has room for one
	users int
}

// own waits for a key, and returns how to give it back. Who has it waits for nothing
// but the file.
func (s *Store) own(key string) (done func()) {
	s.mu.Lock()
	o := s.owners[key]
	if o == nil {
		o = &owner{turn: make(chan struct{}, 1)}
		s.owners[key] = o
	}
	o.users++
	s.mu.Unlock()
	o.turn <- struct{}{}
	return func() {
		<-o.turn
		s.mu.Lock()
		defer s.mu.Unlock()
		if o.users--; o.users == 0 {
			delete(s.owners, key)
		}
	}
}
