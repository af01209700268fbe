// Package lint holds the structure of the repository as tests: which package may import which, who may import the
// heavy libraries, and that every package says in its doc.go what it is for. It contains no code that runs in
// production and nothing may import it.
package lint
