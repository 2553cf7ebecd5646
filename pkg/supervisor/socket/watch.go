package socket

// A watch tells somebody what was found.
type watch struct {
	tell func(string, Finding)
}

// Watch makes tell be called with what processes did to sockets.
func (t *Table) Watch(tell func(name string, f Finding)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watch = &watch{tell: tell}
	return nil
}

func (t *Table) tell(name string, found []Finding) {
	t.mu.Lock()
	w := t.watch
	t.mu.Unlock()
	for _, f := range found {
		if w != nil {
			w.tell(name, f)
		}
	}
}
