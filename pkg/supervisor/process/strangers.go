package process

import (
	"errors"
	"slices"
)

// A stranger is a child of the Parent that it has not forked. When the main process of a
// tree has ended, all that it leaves behind hangs on strangers:
//
//   - A process that ends gives its children to the next subreaper above it, which is
//     the Parent if nothing below it is one (prctl(2), PR_SET_CHILD_SUBREAPER; PID 1
//     needs no such call). The kernel does so under the lock under which the end becomes
//     visible, so who sees the end, by a pidfd or in /proc, sees the children here.
//   - So the parent of a living process lives, and going up from a member of the tree
//     one comes to a living child of the Parent. That is not the main process, which has
//     ended, nor another that was forked there: a process never comes to hang on one
//     that it does not descend from, but for the Parent.
//
// So where there is no stranger nobody is left, and no walk of /proc has to show it.
// The exception is who enters a PID namespace that is not below it (setns(2)): its
// orphans go to the first process of that, where only a walk finds them.
//
// Those who are in the Parent's own session are no strangers: getent(1) is there, and what
// other parts of the program start; a member of a tree never is. What is being forked is
// taken for a stranger until its start is over, which costs a walk and no more.

// settleTries is how often the children are listed again while they come and go.
const settleTries = 8

// findStrangers looks until there is one that lives, or only such as had ended before
// the children were listed: one that has ended since may have left children to us that
// came too late for the list.
//
// None, and no error: nobody is left.
func findStrangers(p Parent) (alive []stat, err error) {
	var before map[int]uint64
	for range settleTries {
		pids, err := settledChildren(func() (lists, error) { return listChildren(p.PID()) })
		if err != nil {
			return nil, err
		}
		alive, ended, gone := sortStrangers(p, pids)
		if len(alive) > 0 {
			return alive, nil
		}
		fresh := gone
		for pid, start := range ended {
			fresh = fresh || before[pid] != start
		}
		if !fresh {
			return nil, nil
		}
		before = ended
	}
	return nil, errUnsettled
}

// noSession is nobody's. 0 is one: that of who was started from outside of a PID namespace.
const noSession = -1

// sortStrangers picks the strangers among the Parent's children. gone: some were reaped since
// they were listed, or cannot be seen (proc(5), hidepid).
func sortStrangers(p Parent, pids []int) (alive []stat, ended map[int]uint64, gone bool) {
	ended = map[int]uint64{}
	for _, pid := range pids {
		if p.Whose(pid, noSession) == Forked { // there may be thousands
			continue
		}
		s, err := readStat(pid)
		switch {
		case err != nil, s.parent != p.PID():
			gone = true
		case p.Whose(pid, s.session) == Forked:
		case s.alive():
			alive = append(alive, s)
		default:
			ended[pid] = s.start
		}
	}
	return alive, ended, gone
}

var errUnsettled = errors.New("cannot list the children: they come and go")

// settledChildren lists children such that none is missing who was one all the
// time. A single list may miss some: the kernel lets go of its lock after each, and
// when those it has listed are reaped meanwhile it loses its place and skips as many.
// The next list is then without those that were reaped. So two equal lists in a row
// have skipped nobody.
//
// Who becomes a child while they are made may be missing, and needs a second look.
// Orphans come to the Parent's first thread (Go never ends that one), whose children
// are listed first; those of another thread that ends go there too, which changes the
// list of threads.
func settledChildren(list func() (lists, error)) ([]int, error) {
	last, err := list()
	for range settleTries {
		if err != nil {
			return nil, err
		}
		var next lists
		if next, err = list(); err == nil && last.equal(next) {
			return next.children, nil
		}
		last = next
	}
	return nil, errors.Join(err, errUnsettled)
}

// lists are the threads of a process and the children of all of them, in the kernel's order.
type lists struct{ threads, children []int }

func (l lists) equal(m lists) bool {
	return slices.Equal(l.threads, m.threads) && slices.Equal(l.children, m.children)
}
