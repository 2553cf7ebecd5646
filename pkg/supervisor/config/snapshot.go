package config

import (
	"crypto/sha256"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
)

// A snapshot tells whether a configuration is still what is on disk. It has the
// stamp that each file had before it was read, so that a change while it was read,
// or right after, is one.
type snapshot struct {
	files    map[string]*seen
	patterns map[string][]string // what include's patterns matched
	look     func() bool
	looking  chan struct{} // one look at a time
}

// seen is what a file was.
type seen struct {
	stamp   safepath.Stamp // zero: there was none
	sum     [sha256.Size]byte
	settled atomic.Bool // another change would have another stamp
}

func newSnapshot() *snapshot {
	s := &snapshot{files: map[string]*seen{}, patterns: map[string][]string{}, looking: make(chan struct{}, 1)}
	s.look = s.differs
	return s
}

// patience is how long FilesDiffer waits for a file system.
const patience = time.Second

// FilesDiffer reports whether the files on disk differ from what was read: a file has
// other text, or was replaced or touched, or a pattern of include matches other files. It
// is false for a Config that was not read from files.
//
// It costs one stat(2) per file and a look at the directories, and waits for at most a
// second. A file system that does not answer by then counts as different, and a single
// goroutine keeps waiting for it, however often FilesDiffer is called.
func (c *Config) FilesDiffer() bool {
	s := c.seen
	if s == nil {
		return false
	}
	enough := time.NewTimer(patience)
	defer enough.Stop()
	select {
	case s.looking <- struct{}{}:
	case <-enough.C:
		return true
	}
	answer := make(chan bool, 1)
	go func() {
		defer func() { <-s.looking }()
		answer <- s.look()
	}()
	select {
	case differs := <-answer:
		return differs
	case <-enough.C:
		return true
	}
}

func (s *snapshot) differs() bool {
	for pattern, then := range s.patterns {
		if now, _ := matches(pattern); !slices.Equal(now, then) {
			return true
		}
	}
	for path, f := range s.files {
		if f.differs(path) {
			return true
		}
	}
	return false
}

// differs reads a file again if that was written too shortly before it was read
// for its stamp to tell another text. Once is enough, when some time has passed.
func (f *seen) differs(path string) bool {
	now, _ := safepath.StampOf(path)
	if now != f.stamp || f.settled.Load() {
		return now != f.stamp
	}
	began := time.Now()
	text, now, err := safepath.ReadStamped(path, maxFile)
	if err != nil || now != f.stamp || sha256.Sum256(text) != f.sum {
		return true
	}
	f.settled.Store(!now.Fresh(began))
	return false
}

// read keeps what was read, or what could not be, from began on.
func (s *snapshot) read(path string, text []byte, stamp safepath.Stamp, err error, began time.Time) {
	f := &seen{stamp: stamp, sum: sha256.Sum256(text)}
	if err != nil {
		f.stamp, _ = safepath.StampOf(path)
	}
	f.settled.Store(err != nil || !stamp.Fresh(began))
	s.files[path] = f
}

// match is what matches a pattern of include now, and kept for later.
func (s *snapshot) match(pattern string) ([]string, error) {
	found, err := matches(pattern)
	if err == nil {
		s.patterns[pattern] = found
	}
	return found, err
}

// matches leaves out hidden files, which are an editor's, as a shell does; and more
// than anybody has.
func matches(pattern string) (found []string, err error) {
	all, err := filepath.Glob(pattern)
	for _, path := range all {
		if (!hidden(path) || hidden(pattern)) && len(found) <= maxFiles {
			found = append(found, path)
		}
	}
	return found, err
}

func hidden(path string) bool { return strings.HasPrefix(filepath.Base(path), ".") }
