/* SPDX-License-Identifier: MIT */
/*
 * Two accounts are locked together, in any order, by threads that move money both
 * ways.  None of them waits for ever.
 *
 * prints:
 *	together: 2000
 */
#include <mmn/exec.h>

#include <pthread.h>
#include <stdio.h>

static DEFINE_WD_CLASS(account_class);

struct account {
	struct ww_mutex lock;
	long balance;
};

static struct account accounts[2];

static int move_money(struct account *from, struct account *to, long amount)
{
	struct mmn_exec exec;
	int ret = 0;

	mmn_exec_init(&exec, &account_class, 0);
	mmn_exec_until_all_locked(&exec)
	{
		ret = mmn_exec_lock(&exec, &from->lock);
		mmn_exec_retry_on_contention(&exec);
		if (!ret)
			ret = mmn_exec_lock(&exec, &to->lock);
		mmn_exec_retry_on_contention(&exec);
		if (ret)
			break;
	}
	if (!ret) {
		from->balance -= amount;
		to->balance += amount;
	}
	mmn_exec_fini(&exec);
	return ret;
}

static void *move_all_day(void *arg)
{
	struct account *from = arg;
	struct account *to = from == accounts ? &accounts[1] : accounts;
	int i;

	for (i = 0; i < 1000; i++)
		if (move_money(from, to, 1))
			return arg;
	return NULL;
}

int main(void)
{
	pthread_t thread;
	int i;

	for (i = 0; i < 2; i++) {
		ww_mutex_init(&accounts[i].lock, &account_class);
		accounts[i].balance = 1000;
	}
	if (pthread_create(&thread, NULL, move_all_day, &accounts[0]))
		return 1;
	if (move_all_day(&accounts[1]))
		return 1;
	pthread_join(thread, NULL);
	printf("together: %ld\n", accounts[0].balance + accounts[1].balance);
	return 0;
}
