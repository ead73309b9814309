/* Ends the guest: `poweroff`, as init or under it. */
#include <sys/reboot.h>
#include <unistd.h>

int main(void) {
    sync();
    return reboot(RB_POWER_OFF) ? 1 : 0;
}
