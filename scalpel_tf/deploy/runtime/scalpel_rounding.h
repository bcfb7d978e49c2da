/* How the sum of a fully connected row is scaled back to int8.
 *
 * 0: rounded once, as the interpreter of TensorFlow Lite (LiteRT) does it.
 * 1: rounded twice, as TensorFlow Lite Micro and CMSIS-NN do it.
 * Of outputs with the right shift s, about one in 2^(s + 1) differs, by 1.  All other operators
 * round twice everywhere.
 */
#ifndef SCALPEL_ROUNDING_H
#define SCALPEL_ROUNDING_H

#define SCALPEL_DOUBLE_ROUNDING 0

#endif /* SCALPEL_ROUNDING_H */
