package worker

import (
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
	"unsafe"
)

// takeOnShutdown returns what was registered by RegisterOnShutdown of srv, for this
// process to call when it begins to leave, and not by Shutdown a second time. Only
// Shutdown calls it, which would drop the requests that arrive from then on. So it is
// taken from where it is; if a later net/http keeps it elsewhere, it is called when
// the connections have left. None is returned if srv is being shut down by its user.
func takeOnShutdown(srv *http.Server) []func() {
	mu, shutdown, registered := field[sync.Mutex](srv, "mu"), field[atomic.Bool](srv, "inShutdown"), field[[]func()](srv, "onShutdown")
	if mu == nil || shutdown == nil || registered == nil {
		return nil
	}
	mu.Lock()
	defer mu.Unlock()
	if shutdown.Load() {
		return nil
	}
	all := *registered
	*registered = nil
	return all
}

// field returns a field of srv, nil if there is none of this name and type.
func field[T any](srv *http.Server, name string) *T {
	f := reflect.ValueOf(srv).Elem().FieldByName(name)
	if !f.IsValid() || f.Type() != reflect.TypeFor[T]() {
		return nil
	}
	return (*T)(unsafe.Pointer(f.UnsafeAddr()))
}
