package check

// Violation is something that must not have happened.
type Violation struct {
	Checker string
	What    string
}
