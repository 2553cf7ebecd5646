package logs

import (
	"sync"
	"time"
)

// A spool is a bounded queue before something slow. Its goroutine exists only
// while there is work. All methods need the owner's mu.
type spool[T any] struct {
	mu    *sync.Mutex
	limit int           // bytes
	work  func([]T)     // called without mu, by one goroutine at a time
	late  time.Duration // how long somebody waits for a sign of life

	queue   []T
	queued  int           // bytes in queue
	held    int           // bytes in queue and in work
	busy    bool          // the goroutine exists
	stalled bool          // somebody has lost patience, and no work has come back since
	turn    chan struct{} // closed when work comes back
}

func (q *spool[T]) init(mu *sync.Mutex, limit int, work func([]T)) {
	q.mu, q.limit, q.work, q.late, q.turn = mu, limit, work, patience, make(chan struct{})
}

// wait waits until there is room for n bytes, and says whether there is. It
// releases mu while it waits: so long after the last sign of life, and not
// at all once that was in vain.
func (q *spool[T]) wait(n int) bool {
	for q.full(n) && !q.stalled {
		q.waitTurn()
	}
	return !q.full(n)
}

func (q *spool[T]) full(n int) bool { return q.held > 0 && q.held+n > q.limit }

func (q *spool[T]) waitTurn() {
	turn := q.turn
	late := time.NewTimer(q.late)
	defer late.Stop()
	q.mu.Unlock()
	select {
	case <-turn:
	case <-late.C:
	}
	q.mu.Lock()
	q.stalled = q.turn == turn
}

// add queues an item of n bytes, whether there is room or not.
func (q *spool[T]) add(item T, n int) {
	q.queue = append(q.queue, item)
	q.queued += n
	q.held += n
	if !q.busy {
		q.busy = true
		go q.run()
	}
}

func (q *spool[T]) run() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.queue) > 0 {
		q.round()
	}
	q.busy = false
}

func (q *spool[T]) round() {
	batch, size := q.queue, q.queued
	q.queue, q.queued = nil, 0
	q.mu.Unlock()
	q.work(batch)
	q.mu.Lock()
	q.held -= size
	q.stalled = false
	close(q.turn)
	q.turn = make(chan struct{})
}
