// Everything works without this, too; it adds the arrow keys, and closes a photograph for the next.
function step(button) {
  const next = document.getElementById(button.getAttribute("popovertarget"));
  button.closest(".full").hidePopover();
  next.showPopover();
}
document.addEventListener("click", (event) => {
  const button = event.target.closest(".previous, .next");
  if (button) {
    event.preventDefault();
    step(button);
  }
});
document.addEventListener("keydown", (event) => {
  const key = { ArrowLeft: ".previous", ArrowRight: ".next" }[event.key];
  const button = key && document.querySelector(".full:popover-open " + key);
  if (button) {
    event.preventDefault();
    step(button);
  }
});
