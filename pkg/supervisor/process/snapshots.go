package process

import "sync"

// snapshots shares one walk of /proc among all who want one at the same time:
// when a thousand processes end at once, few walks are taken.
var snapshots = shared[map[int]stat]{take: snapshot}

// A shared look is good for those who asked before it began.
type shared[T any] struct {
	take func() (T, error)

	mu   sync.Mutex
	next *look[T] // has not begun; nil: nobody has asked
	busy sync.Mutex
}

type look[T any] struct {
	once sync.Once
	seen T
	err  error
}

// get returns what was taken by a look that was begun after the call; it is not to
// be changed.
func (s *shared[T]) get() (T, error) {
	s.mu.Lock()
	if s.next == nil {
		s.next = &look[T]{}
	}
	l := s.next
	s.mu.Unlock()
	s.busy.Lock()
	defer s.busy.Unlock()
	l.once.Do(func() {
		s.mu.Lock()
		s.next = nil // who asks from now on gets the one after this
		s.mu.Unlock()
		l.seen, l.err = s.take()
	})
	return l.seen, l.err
}
