//! Prints the SDL.

#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn main() {
    print!("{}", schema::sdl());
}
