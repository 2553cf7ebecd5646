package process

import (
	"context"
	"errors"
	"sync"
)

// What may hang in the kernel for ever, such as a file system whose server does
// not answer, is done apart: whoever has waited long enough goes on, and what comes
// of it later is undone. Each costs a thread as long as it hangs, or a process (see
// lingers), so a service has maxHung at most; from then on it fails at once, until one of
// them has come back.
const maxHung = 4

// errHung is why nothing was tried.
var errHung = errors.New("earlier starts of it still hang")

// hung counts what is not waited for any more, by service.
type hung struct {
	mu    sync.Mutex
	count map[string]int
}

func (h *hung) full(service string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count[service] >= maxHung
}

func (h *hung) add(service string, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count == nil {
		h.count = map[string]int{}
	}
	if h.count[service] += n; h.count[service] == 0 {
		delete(h.count, service)
	}
}

// apart returns what do returns, or the error of ctx, or errHung. What do
// returns too late goes to late.
func apart[T any](ctx context.Context, h *hung, service string, do func() T, late func(T)) (v T, err error) {
	if h.full(service) {
		return v, errHung
	}
	done := make(chan T, 1)
	go func() { done <- do() }()
	select {
	case v = <-done:
		return v, nil
	case <-ctx.Done():
	}
	h.add(service, 1)
	go func() {
		late(<-done)
		h.add(service, -1)
	}()
	return v, context.Cause(ctx)
}
