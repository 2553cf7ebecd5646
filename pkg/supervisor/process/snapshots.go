package process

import "sync"

// snapshots shares one walk of /proc among all who want one at the same time:
// when a thousand processes end at once, few walks are taken.
var snapshots shared

// A shared walk is good for those who asked before it began.
type shared struct {
	mu   sync.Mutex
	next *walk // has not begun; nil: nobody has asked
	busy sync.Mutex
}

type walk struct {
	once sync.Once
	all  map[int]stat
	err  error
}

// take returns a snapshot that was begun after the call; it is not to be changed.
func (s *shared) take() (map[int]stat, error) {
	s.mu.Lock()
	if s.next == nil {
		s.next = &walk{}
	}
	w := s.next
	s.mu.Unlock()
	s.busy.Lock()
	defer s.busy.Unlock()
	w.once.Do(func() {
		s.mu.Lock()
		s.next = nil // who asks from now on gets the one after this
		s.mu.Unlock()
		w.all, w.err = snapshot()
	})
	return w.all, w.err
}
