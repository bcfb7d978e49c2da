/* What main.c needs of a board. */
#ifndef BOARD_H
#define BOARD_H

/* Prints "<wrong> of <total> test vectors differ". */
void board_print_result(int wrong, int total);

#endif /* BOARD_H */
