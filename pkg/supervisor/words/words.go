// Package words says in words what a unit is, what happened to it and why: in
// status, in events and their log lines, and in the answers of jobs.
//
// Everything here is a function of a view, and decides nothing.
package words
